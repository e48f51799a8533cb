//! Writes the records of a file into the database. The file is read twice: first to check it as a
//! whole, and to find the last line about each record; then to write.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::line::{FORMAT, First, Last, Line};
use crate::cli::{Failure, out};
use crate::domain::{Actor, Did, NewRecord, Precondition, RecordKey, RecordsChanged};
use crate::services::{RecordOperation, Records};

/// The most records that are written together, and about how many bytes of them.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 2 * 1024 * 1024;

#[derive(Default)]
struct Counts {
    written: u64,
    /// They were there already.
    same: u64,
    /// Not overwritten.
    other: Vec<String>,
}

pub(super) async fn run(
    records: &Records,
    did: &Did,
    path: &Path,
    as_json: bool,
) -> Result<(), Failure> {
    let last = check(path, did)?;
    out::note(format!("{}: whole; {} records", path.display(), last.len()));
    let mut counts = Counts::default();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (number, line) in open(path)?.lines().enumerate() {
        let line = line.map_err(|error| damaged(path, &error.to_string()))?;
        // The first line and the last one are no records.
        let Some((key, Some(new))) = read(&line) else { continue };
        if last.get(&key) != Some(&number) {
            continue;
        }
        bytes += new.content.ciphertext().len();
        batch.push((key, new));
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            write(records, did, std::mem::take(&mut batch), &mut counts).await?;
            bytes = 0;
            out::note(format!("{} of {} records", counts.written + counts.same, last.len()));
        }
    }
    write(records, did, batch, &mut counts).await?;
    let Counts { written, same, other } = counts;
    if as_json {
        out::json(&json!({ "written": written, "same": same, "other": other }))?;
    } else {
        out::line(format!("{written} records written, {same} were there already"))?;
    }
    if other.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} records exist with another checksum, and were left as they are: {}",
        other.len(),
        other.join(", ")
    )))
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file = File::open(path).map_err(|error| damaged(path, &error.to_string()))?;
    Ok(BufReader::new(file))
}

fn damaged(path: &Path, why: &str) -> Failure {
    Failure::Failed(format!("{}: {why}; nothing was written", path.display()))
}

fn read(line: &str) -> Option<(RecordKey, Option<NewRecord>)> {
    serde_json::from_str::<Line>(line).ok()?.read()
}

/// Finds the last line about each record that is no tombstone.
///
/// # Errors
/// When the file is no export of this DID, or is not whole.
fn check(path: &Path, did: &Did) -> Result<HashMap<RecordKey, usize>, Failure> {
    let mut last = HashMap::new();
    let mut digest = Sha256::new();
    let mut end: Option<Last> = None;
    let mut count = 0;
    for (number, line) in open(path)?.lines().enumerate() {
        let line = line.map_err(|error| damaged(path, &error.to_string()))?;
        if end.is_some() {
            return Err(damaged(path, "it goes on after its end"));
        }
        if number == 0 {
            let first = serde_json::from_str(&line).ok();
            let first = first.filter(|first: &First| first.format == FORMAT);
            let Some(First { did: owner, .. }) = first else {
                return Err(damaged(path, "it is no export of records"));
            };
            if owner != did.as_str() {
                return Err(damaged(path, &format!("it has the records of {owner}, not of {did}")));
            }
        } else if let Some((key, new)) = read(&line) {
            count += 1;
            match new {
                Some(_) => last.insert(key, number),
                None => last.remove(&key),
            };
        } else if let Ok(found) = serde_json::from_str(&line) {
            end = Some(found);
            continue;
        } else {
            return Err(damaged(path, &format!("line {} cannot be read", number + 1)));
        }
        digest.update(line.as_bytes());
        digest.update(b"\n");
    }
    let sha256 = base16ct::lower::encode_string(&digest.finalize());
    match end {
        Some(end) if end.lines == count && end.sha256 == sha256 => Ok(last),
        Some(_) => Err(damaged(path, "it was changed after it was made")),
        None => Err(damaged(path, "its end is missing")),
    }
}

/// Writes records that are not there yet.
async fn write(
    records: &Records,
    did: &Did,
    mut batch: Vec<(RecordKey, NewRecord)>,
    counts: &mut Counts,
) -> Result<(), Failure> {
    while !batch.is_empty() {
        let operation = |(key, new): &(RecordKey, NewRecord)| RecordOperation {
            key: key.clone(),
            precondition: Precondition::Absent,
            put: Some(new.clone()),
        };
        let operations = batch.iter().map(operation).collect();
        match records.change(did, &Actor::Operator, operations).await? {
            RecordsChanged::Done(written) => {
                counts.written += written.len() as u64;
                return Ok(());
            }
            RecordsChanged::PreconditionFailed(there) => {
                for (place, _) in there.iter().rev() {
                    if *place >= batch.len() {
                        continue;
                    }
                    let (key, new) = batch.remove(*place);
                    let found = records.head(did, &key).await?.and_then(|record| record.live);
                    if found.is_some_and(|live| live.checksum == new.content.checksum()) {
                        counts.same += 1;
                    } else {
                        counts.other.push(key.to_string());
                    }
                }
            }
            RecordsChanged::QuotaReached(_) => {
                return Err(Failure::Failed(format!(
                    "{did} may not have so many records or bytes; raise records.max_records or \
                     records.max_bytes, and import the file again"
                )));
            }
            RecordsChanged::Revoked => {
                return Err(Failure::Refused(format!(
                    "{did} is revoked; its records are not written"
                )));
            }
        }
    }
    Ok(())
}
