//! `onceguard audit verify`: whether the log is as it was written. Only reads.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::{Failure, database, format, out};
use crate::config::Config;
use crate::domain::{Finding, Head, HeadKey, InvalidHead, LogVerifier, SignedHead, VerifiedLog};
use crate::services::{HEADS_FILE, SealingKeys, notes_of};
use crate::storage::{EventChain, Store};

/// Events and heads that are read at a time.
const PAGE: u32 = 1000;
/// How often a purge may cut the log while it is walked along.
const TRIES: u32 = 5;

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// Signed heads to compare the log with [default: DATA_DIR/audit-heads]
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is known of the log from outside it.
#[derive(Default)]
struct Known {
    heads: Vec<Head>,
    /// Heads whose signature cannot be checked.
    of_other_keys: u64,
    problems: Vec<String>,
}

impl Verify {
    pub(super) async fn run(self, config: &Config) -> Result<(), Failure> {
        let keys = SealingKeys::load(&config.sealing, &config.data_dir, false)?.head_keys();
        let path = self.heads.clone().unwrap_or_else(|| config.data_dir.join(HEADS_FILE));
        let unreadable =
            |why: &dyn std::fmt::Display| Failure::Usage(format!("{}: {why}", path.display()));
        if self.heads.is_some() && !path.exists() {
            return Err(unreadable(&"there is no such file"));
        }
        let notes = notes_of(&path).map_err(|error| unreadable(&error))?;
        let store = database::open_complete(config).await?;
        let verified = verify(&store, &keys, &notes, &path.display().to_string()).await;
        store.close().await;
        let (known, verified) = verified?;
        self.report(&known, &verified)
    }

    fn report(&self, known: &Known, verified: &VerifiedLog) -> Result<(), Failure> {
        let mut problems = known.problems.clone();
        problems.extend(verified.findings.iter().map(Finding::to_string));
        if self.json {
            let recoveries: Vec<_> = verified
                .recoveries
                .iter()
                .map(|(sequence, at)| json!({ "sequence": sequence, "at": format::time(*at) }))
                .collect();
            out::json(&json!({
                "events": verified.events,
                "erased": verified.erased,
                "purged": verified.purged,
                "heads": verified.heads,
                "heads_of_other_keys": known.of_other_keys,
                "signed_until": verified.signed,
                "recoveries": recoveries,
                "findings": problems,
            }))?;
        } else {
            for problem in &problems {
                out::line(problem)?;
            }
            for (sequence, at) in &verified.recoveries {
                out::line(format!(
                    "note: a recovery at {at} says that the log went on from event {sequence}, and \
                     that what came after it was lost"
                ))?;
            }
            if known.of_other_keys > 0 {
                out::line(format!(
                    "note: {} heads are signed with keys that are not configured, and were left out",
                    known.of_other_keys
                ))?;
            }
            out::line(format!(
                "{} events, of which {} are erased and {} purged; {} signed heads fit, the last of \
                 event {}",
                verified.events,
                verified.erased,
                verified.purged,
                verified.heads,
                verified.signed.map_or_else(|| "none".to_owned(), |place| place.to_string()),
            ))?;
        }
        match problems.len() {
            0 => Ok(()),
            1 => Err(Failure::Failed("the log is not as it was written".to_owned())),
            many => {
                Err(Failure::Failed(format!("the log is not as it was written: {many} findings")))
            }
        }
    }
}

async fn verify(
    store: &Store,
    keys: &[HeadKey],
    notes: &[String],
    file: &str,
) -> Result<(Known, VerifiedLog), Failure> {
    for _ in 0..TRIES {
        let before = store.event_chain().await?;
        let mut known = Known::default();
        for note in notes {
            known.learn(note, keys, &before, file);
        }
        let mut after = 0;
        loop {
            let heads = store.event_heads(after, PAGE).await?;
            let Some(last) = heads.last() else { break };
            after = last.sequence;
            for head in &heads {
                known.learn(&head.note, keys, &before, "the database");
            }
        }
        let mut verifier =
            LogVerifier::new((before.cut_sequence, before.cut_hash), known.heads.iter().copied());
        let end = loop {
            // The end is read first: what is linked since is in the page.
            let end = store.event_chain().await?;
            let page = store.linked_events(verifier.last(), PAGE).await?;
            if page.is_empty() {
                break end;
            }
            for event in &page {
                verifier.event(event);
            }
        };
        if end.cut_sequence == before.cut_sequence {
            let walked = verifier.finish((end.sequence, end.hash), end.observed_at);
            return Ok((known, walked));
        }
    }
    Err(Failure::Unavailable("the purge cuts the log all the time; try again later".to_owned()))
}

impl Known {
    fn learn(&mut self, note: &str, keys: &[HeadKey], chain: &EventChain, from: &str) {
        match SignedHead::read(note, keys) {
            Ok(signed) if signed.head.origin == chain.origin => self.heads.push(signed.head),
            Ok(signed) => {
                let problem = format!(
                    "{from} has heads of another log ({}); this one is {}. If another database took \
                     the place of this one on purpose, move the file away",
                    signed.head.origin, chain.origin
                );
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
            }
            Err(InvalidHead::OtherKey) => self.of_other_keys += 1,
            // A crash may cut the last line short.
            Err(InvalidHead::Form) => {}
            Err(error @ InvalidHead::Signature) => {
                self.problems.push(format!("a head in {from} {error}: it was changed"));
            }
        }
    }
}
