use serde_json::json;

use super::*;
use crate::domain::event::{EventData, Link, NO_HASH, link};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn event(kind: &str, data: &serde_json::Value) -> Event {
    Event {
        id: Uuid::from_u128(1),
        sequence: 0,
        kind: kind.into(),
        source: OWN_SOURCE.into(),
        subject: Some("on".into()),
        actor: Some("by".into()),
        outcome: SUCCESS.into(),
        request_id: None,
        at: at(0),
        data: EventData::own(data),
    }
}

/// Links events after a place.
fn chained(mut sequence: u64, mut previous: Hash, events: Vec<Event>) -> Vec<LinkedEvent> {
    let mut all = Vec::new();
    for mut event in events {
        sequence += 1;
        (event.sequence, event.id) = (sequence, Uuid::from_u128(u128::from(sequence)));
        let Link { salt, commitment, hash, .. } = link(&previous, [7; 16], &event);
        previous = hash;
        let (commitment, hash) = (commitment.to_vec(), hash.to_vec());
        all.push(LinkedEvent { event, salt: Some(salt.to_vec()), commitment, hash });
    }
    all
}

fn log(events: usize) -> Vec<LinkedEvent> {
    chained(0, NO_HASH, (0..events).map(|n| event("a.b", &json!({ "n": n }))).collect())
}

fn hash(linked: &LinkedEvent) -> Hash {
    linked.hash.as_slice().try_into().unwrap()
}

fn head(linked: &LinkedEvent) -> Head {
    let (sequence, hash) = (linked.event.sequence, hash(linked));
    Head { origin: Uuid::nil(), sequence, hash, at: at(9) }
}

fn end(log: &[LinkedEvent]) -> (u64, Hash) {
    log.last().map_or((0, NO_HASH), |last| (last.event.sequence, hash(last)))
}

fn walk(cut: (u64, Hash), log: &[LinkedEvent], heads: &[Head], end: (u64, Hash)) -> Verified {
    let mut verifier = Verifier::new(cut, heads.iter().copied());
    for linked in log {
        verifier.event(linked);
    }
    verifier.finish(end, at(10))
}

fn findings(log: &[LinkedEvent], heads: &[Head]) -> Vec<Finding> {
    walk((0, NO_HASH), log, heads, end(log)).findings
}

fn id(sequence: u64) -> Uuid {
    Uuid::from_u128(u128::from(sequence))
}

#[test]
fn a_whole_log_is_whole() {
    let log = log(5);
    let verified = walk((0, NO_HASH), &log, &[head(&log[2])], end(&log));
    assert_eq!((verified.findings, verified.events, verified.signed), (vec![], 5, Some(3)));
    assert_eq!(findings(&[], &[]), []);
}

#[test]
fn what_was_done_to_an_event_is_named() {
    let whole = log(6);
    let heads = [head(&whole[5])];
    let done = |change: fn(&mut Vec<LinkedEvent>)| {
        let mut log = whole.clone();
        change(&mut log);
        findings(&log, &heads)
    };
    let changed = |sequence| Finding::Changed { sequence, id: id(sequence) };
    assert_eq!(done(|log| log[2].event.actor = Some("other".into())), [changed(3)]);
    assert_eq!(done(|log| log[2].salt = Some(vec![8; 16])), [changed(3)]);
    let removed = done(|log| drop(log.remove(2)));
    assert_eq!(removed[0], Finding::Missing { from: 3, to: 3 });
    let swapped = done(|log| {
        let (two, four) = (log[1].event.clone(), log[3].event.clone());
        log[1].event = Event { sequence: 2, ..four };
        log[3].event = Event { sequence: 4, ..two };
    });
    assert_eq!(
        swapped,
        [Finding::Changed { sequence: 2, id: id(4) }, Finding::Changed { sequence: 4, id: id(2) }]
    );
    // Another event in the place of one, linked as it should be.
    let replaced = done(|log| {
        let (_, previous) = (0, hash(&log[1]));
        log[2] = chained(2, previous, vec![event("evil", &json!({}))]).remove(0);
    });
    assert_eq!(replaced, [Finding::Unbound { sequence: 4, id: id(4) }]);
}

#[test]
fn an_end_that_was_cut_off_shows_by_the_end_or_by_a_head() {
    let (whole, cut) = (log(6), log(4));
    let cut_off = Finding::CutOff { last: 4, expected: 6 };
    assert_eq!(walk((0, NO_HASH), &cut, &[], end(&whole)).findings, std::slice::from_ref(&cut_off));
    assert_eq!(findings(&cut, &[head(&whole[5])]), [cut_off]);
    // The end that the log tells of was moved back.
    let moved = walk((0, NO_HASH), &whole, &[], end(&cut)).findings;
    assert_eq!(moved, [Finding::OtherEnd { last: 6, told: 4 }]);
}

#[test]
fn a_log_that_was_written_anew_shows_by_a_head() {
    let (whole, mut other) = (log(3), (0..3).map(|_| event("x", &json!({}))).collect::<Vec<_>>());
    other[1].actor = Some("other".into());
    let anew = chained(0, NO_HASH, other);
    let heads = [head(&whole[2])];
    assert_eq!(findings(&anew, &heads), [Finding::HeadDiffers { sequence: 3, signed_at: at(9) }]);
}

#[test]
fn a_log_without_heads_is_doubted_once_it_is_old() {
    let mut events = vec![event("a", &json!({}))];
    events[0].at = at(-600);
    assert_eq!(findings(&chained(0, NO_HASH, events), &[]), [Finding::NoHead]);
    assert_eq!(findings(&log(1), &[]), []);
}

fn empty(linked: &mut LinkedEvent) {
    let Event { id, sequence, at, .. } = linked.event;
    linked.event = Event {
        id,
        sequence,
        at,
        subject: None,
        actor: None,
        ..event(OwnType::Erased.as_str(), &json!({}))
    };
    linked.salt = None;
}

#[test]
fn only_an_erasure_empties_an_event() {
    let erasure = event(OwnType::DidErased.as_str(), &json!({ "erased": [2] }));
    let events =
        vec![event("a", &json!({})), event("b", &json!({})), event("c", &json!({})), erasure];
    let mut log = chained(0, NO_HASH, events);
    empty(&mut log[1]);
    let heads = [head(&log[3])];
    let verified = walk((0, NO_HASH), &log, &heads, end(&log));
    assert_eq!((verified.findings, verified.erased), (vec![], 1));
    let mut other = log.clone();
    empty(&mut other[2]);
    assert_eq!(findings(&other, &heads), [Finding::Emptied { from: 3, to: 3 }]);
    other[2].event.subject = Some("new".into());
    assert_eq!(findings(&other, &heads), [Finding::Changed { sequence: 3, id: id(3) }]);
}

/// Events of callers at the places 1 to 8 but for 4, which is one of the service's own, and the
/// purge's event after them.
fn purged(runs: &serde_json::Value, emptied: &[usize]) -> Vec<LinkedEvent> {
    let mut events: Vec<_> = (0..8).map(|n| event("a.b", &json!({ "n": n }))).collect();
    events[3] = event(OwnType::DidRevoked.as_str(), &json!({}));
    events.push(event(OwnType::EventsPurged.as_str(), &json!({ "purged": runs })));
    let mut log = chained(0, NO_HASH, events);
    for index in emptied {
        empty(&mut log[*index]);
    }
    log
}

#[test]
fn a_purge_names_what_it_emptied() {
    let runs = json!([[1, 3], [6, 7]]);
    let log = purged(&runs, &[0, 1, 2, 5, 6]);
    let heads = [head(&log[8])];
    let verified = walk((0, NO_HASH), &log, &heads, end(&log));
    assert_eq!((verified.findings, verified.purged, verified.erased), (vec![], 5, 0));
    let emptied = |from, to| Finding::Emptied { from, to };
    // An event of the service's own inside, and two of callers after it and at the end.
    let more = purged(&runs, &[0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(findings(&more, &heads), [emptied(4, 5), emptied(8, 8)]);
    let mut changed = log.clone();
    changed[1].event.subject = Some("new".into());
    assert_eq!(findings(&changed, &heads), [Finding::Changed { sequence: 2, id: id(2) }]);
    let mut other = log.clone();
    other[5].commitment[0] ^= 1;
    let unbound = Finding::Unbound { sequence: 6, id: id(6) };
    assert_eq!(findings(&other, &heads), [unbound]);
    // A purge's event that says more than it did.
    let mut wider = more.clone();
    wider[8].event.data = EventData::own(&json!({ "purged": [[1, 8]] }));
    let changed = Finding::Changed { sequence: 9, id: id(9) };
    assert_eq!(findings(&wider, &heads), [changed, emptied(1, 8)]);
}

#[test]
fn a_purge_and_an_erasure_name_events_beside_each_other_and_none_that_come_later() {
    let mut events: Vec<_> = (0..4).map(|n| event("a.b", &json!({ "n": n }))).collect();
    events.push(event(OwnType::DidErased.as_str(), &json!({ "erased": [2] })));
    events.push(event(OwnType::EventsPurged.as_str(), &json!({ "purged": [[1, 1], [3, 3]] })));
    events.push(event(OwnType::DidErased.as_str(), &json!({ "erased": [4, 8] })));
    events.push(event("a.b", &json!({})));
    // What cannot be read names nothing.
    for other in [json!([[9, 1]]), json!([1]), json!("x"), json!(null)] {
        events.push(event(OwnType::EventsPurged.as_str(), &json!({ "purged": other })));
    }
    let mut log = chained(0, NO_HASH, events);
    (0..4).for_each(|index| empty(&mut log[index]));
    let verified = walk((0, NO_HASH), &log, &[], end(&log));
    assert_eq!((verified.findings, verified.purged, verified.erased), (vec![], 2, 2));
    empty(&mut log[7]);
    assert_eq!(findings(&log, &[]), [Finding::Emptied { from: 8, to: 8 }]);
}

#[test]
fn a_beginning_is_cut_off_under_a_head_and_by_an_event_that_says_so() {
    let told = event(OwnType::LogCut.as_str(), &json!({ "sequence": 2 }));
    let events = vec![event("a", &json!({})), event("b", &json!({})), event("c", &json!({})), told];
    let log = chained(0, NO_HASH, events);
    let (cut, heads) = ((2, hash(&log[1])), [head(&log[1])]);
    let cut_at = |cut: (u64, Hash), rows: &[LinkedEvent], heads: &[Head]| {
        walk(cut, rows, heads, end(&log)).findings
    };
    assert_eq!(cut_at(cut, &log[2..], &heads), []);
    assert_eq!(cut_at(cut, &log[1..], &heads), [], "the purge is under way");
    let unproven = [Finding::CutUnproven { sequence: 2 }];
    assert_eq!(cut_at(cut, &log[2..], &[]), unproven);
    assert_eq!(walk(cut, &log[2..3], &heads, end(&log[2..3])).findings, unproven);
    let further = (3, hash(&log[2]));
    assert_eq!(cut_at(further, &log[3..], &heads), [Finding::CutUnproven { sequence: 3 }]);
}

#[test]
fn a_recovery_says_where_the_log_went_on_from() {
    let copied = log(3);
    let (place, tip) = end(&copied);
    let data =
        json!({ "head": { "sequence": place, "hash": base16ct::lower::encode_string(&tip) } });
    let recovery = vec![event(OwnType::DatabaseRecovered.as_str(), &data), event("z", &json!({}))];
    let after = chained(1 << 50, tip, recovery);
    let lost = head(&log(5)[4]);
    let whole = [copied.clone(), after.clone()].concat();
    let verified = walk((0, NO_HASH), &whole, &[lost, head(&after[0])], end(&after));
    assert_eq!((verified.findings, verified.recoveries), (vec![], vec![(3, at(0))]));
    // An event that was lost before the copy was made is missing.
    let gap = [copied[..2].to_vec(), after].concat();
    assert!(matches!(findings(&gap, &[])[0], Finding::Missing { from: 3, .. }));
}
