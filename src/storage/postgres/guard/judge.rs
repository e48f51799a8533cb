//! What is to be done about what a connection found behind it. Decides by what was seen and what this
//! instance knows, and does nothing itself.

use std::time::Duration;

use super::known::Known;
use super::remembered::Remembered;
use super::seen::Seen;
use crate::config::Replication;
use crate::domain::Timestamp;
use crate::storage::marks::covers;

/// What is to be done before a connection may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    /// What was looked for is not what is remembered now: another connection put the database right,
    /// or a heartbeat was acknowledged.
    LookAgain,
    /// The database was recovered, and this instance has nothing to add.
    Take,
    /// It is on its server for the first time, or nothing was lost by a promotion.
    Adopt,
    Recover(String),
    /// This is not the database that the instance served: nothing helps but another server.
    Refuse(String),
}

/// What of this instance was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledged {
    /// A time that the database's clock had not passed when this instance last wrote.
    pub(super) until: Timestamp,
    /// The latest time that a message which it accepted states as its own.
    pub(super) issued: Option<Timestamp>,
}

pub(super) fn judge(
    seen: &Seen,
    remembered: &Remembered,
    known: &Known,
    acknowledged: Acknowledged,
    replication: Replication,
) -> Verdict {
    if !known.still_holds(remembered) {
        return Verdict::LookAgain;
    }
    if seen.generation != known.generation {
        return judge_generation(seen, known, acknowledged, replication);
    }
    let here = seen.here();
    // A promotion without a loss makes no generation: then the timeline tells.
    if let Some(before) = known.server
        && before.was_promoted_from(here)
    {
        return Verdict::Refuse(format!(
            "its timeline is {}, and this instance has served it on {}: an old primary is back",
            here.timeline, before.timeline
        ));
    }
    let lost = (seen.lost > 0).then(|| {
        "it lacks commits that were acknowledged: it was put back to an earlier state".to_owned()
    });
    match lost.or_else(|| misplaced(seen, replication)) {
        Some(why) => Verdict::Recover(why),
        None if seen.recorded() == Some(here) => Verdict::Nothing,
        None => Verdict::Adopt,
    }
}

/// The generation is not the one that the instance knows.
fn judge_generation(
    seen: &Seen,
    known: &Known,
    acknowledged: Acknowledged,
    replication: Replication,
) -> Verdict {
    if !seen.ancestors.contains(&known.generation) {
        return Verdict::Refuse(format!(
            "its generation {} does not follow {}, which this instance has served: it is an \
             earlier state or another database; is an old primary back?",
            seen.generation, known.generation
        ));
    }
    if let Some(why) = misplaced(seen, replication) {
        return Verdict::Recover(why);
    }
    let skew = Duration::from_secs(u64::try_from(seen.skew_seconds).unwrap_or(0));
    let Acknowledged { until, issued } = acknowledged;
    let covered = covers(seen.not_before, seen.ahead_until, until + skew, issued);
    // What was acknowledged during the recovery is later than it covers, and is there.
    if covered || seen.lost == 0 {
        Verdict::Take
    } else {
        Verdict::Recover("it was recovered before this instance last wrote to it".into())
    }
}

/// Why the server may lack commits, though what this instance remembers is there.
fn misplaced(seen: &Seen, replication: Replication) -> Option<String> {
    let promoted = seen.recorded().is_some_and(|before| seen.here().was_promoted_from(before));
    if promoted && replication == Replication::Synchronous { None } else { elsewhere(seen) }
}

/// Why the server is not the one that the database's history names.
pub(super) fn elsewhere(seen: &Seen) -> Option<String> {
    let (recorded, here) = (seen.recorded()?, seen.here());
    if recorded == here {
        None
    } else if here.was_promoted_from(recorded) {
        let (to, from) = (here.timeline, recorded.timeline);
        Some(format!(
            "its server was promoted (from timeline {from} to {to}), and may lack commits"
        ))
    } else {
        Some("it is a copy of the database that was served".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use uuid::Uuid;

    use super::*;
    use crate::config::Replication::Asynchronous;
    use crate::storage::postgres::guard::known::Beat;

    fn verdict(seen: &Seen, remembered: &Remembered, known: &Known, until: Timestamp) -> Verdict {
        judge(seen, remembered, known, Acknowledged { until, issued: None }, Asynchronous)
    }

    #[test]
    fn what_a_heartbeat_dropped_is_not_missing() {
        let seen = Seen::whole(Uuid::now_v7());
        let mut known = Known::of(&seen, None);
        let mark = known.open_connection();
        mark.acknowledge();
        mark.close();
        let remembered = known.remembered();
        let beat = |marks| Beat {
            generation: seen.generation,
            at: seen.at,
            heartbeats: HashMap::new(),
            marks,
        };
        let heartbeat = known.begin_heartbeat();
        assert!(heartbeat.forgotten.is_empty(), "a check may look for it");
        known.end_heartbeat(&heartbeat, beat(vec![mark.id]));
        let next = known.begin_heartbeat();
        assert_eq!(next.forgotten, [mark.id]);
        known.end_heartbeat(&next, beat(Vec::new()));

        let lost = Seen { lost: 1, ..Seen::whole(seen.generation) };
        assert_eq!(verdict(&lost, &remembered, &known, seen.at), Verdict::LookAgain);
        let remembered = known.remembered();
        assert!(remembered.connections.0.is_empty());
        assert_eq!(verdict(&seen, &remembered, &known, seen.at), Verdict::Nothing);
        let lost = verdict(&lost, &remembered, &known, seen.at);
        assert!(matches!(lost, Verdict::Recover(_)), "{lost:?}");
    }

    #[test]
    fn an_answer_from_before_a_recovery_is_not_compared_with_the_memory_after_it() {
        let seen = Seen { lost: 1, ..Seen::whole(Uuid::now_v7()) };
        let mut known = Known::of(&seen, None);
        let remembered = known.remembered();
        let after = Uuid::now_v7();
        assert!(known.take(seen.generation, after, Some(seen.at), seen.here()));
        assert!(!known.take(seen.generation, Uuid::now_v7(), None, seen.here()));
        assert_eq!(verdict(&seen, &remembered, &known, seen.at), Verdict::LookAgain);
        let late = Seen { ancestors: vec![seen.generation], ..Seen::whole(after) };
        assert_eq!(verdict(&late, &remembered, &known, seen.at), Verdict::LookAgain);
        assert_eq!(verdict(&late, &known.remembered(), &known, seen.at), Verdict::Nothing);
    }

    #[test]
    fn a_recovery_is_taken_that_covers_or_has_what_is_remembered() {
        let seen = Seen::whole(Uuid::now_v7());
        let known = Known::of(&seen, None);
        let recovered = |lost, not_before| Seen {
            ancestors: vec![seen.generation],
            not_before,
            lost,
            ..Seen::whole(Uuid::now_v7())
        };
        let (before, skew) = (seen.at - Duration::from_secs(1), Duration::from_mins(1));
        for (lost, not_before, taken) in
            [(0, before, true), (1, before, false), (1, seen.at, false), (1, seen.at + skew, true)]
        {
            let seen_now = recovered(lost, Some(not_before));
            let verdict = verdict(&seen_now, &known.remembered(), &known, seen.at);
            assert_eq!(verdict == Verdict::Take, taken, "{verdict:?}");
        }
    }
}
