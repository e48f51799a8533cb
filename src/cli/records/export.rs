//! Writes the records of a DID into a file, which has its name only once it is whole.

use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::line::{FORMAT, First, Last, Line};
use crate::archive::Draft;
use crate::cli::{Failure, out};
use crate::domain::{Did, MAX_PAGE, RecordFeed, RecordFilter};
use crate::services::Records;

pub(super) async fn run(
    records: &Records,
    did: &Did,
    path: &Path,
    as_json: bool,
) -> Result<(), Failure> {
    let failed = |error| Failure::Failed(format!("{}: {error}", path.display()));
    let draft = Draft::create(path).map_err(failed)?;
    let mut file = BufWriter::new(draft);
    let mut digest = Sha256::new();
    let mut write = |value: &dyn ErasedLine| -> Result<(), Failure> {
        let line = value.line()?;
        digest.update(&line);
        file.write_all(&line).map_err(failed)
    };
    write(&First { format: FORMAT.to_owned(), did: did.to_string() })?;
    let (mut lines, mut since) = (0_u64, None);
    loop {
        let feed = records.feed(did, RecordFilter::default(), since, MAX_PAGE, true).await?;
        let RecordFeed::Page { records: page, next, more } = feed else {
            let why = "the records were erased while they were read";
            return Err(Failure::Failed(why.to_owned()));
        };
        for record in &page {
            write(&Line::of(record).map_err(Failure::Failed)?)?;
            lines += 1;
        }
        since = Some(next);
        if !more {
            break;
        }
        out::note(format!("{lines} records and deletions read"));
    }
    let sha256 = base16ct::lower::encode_string(&digest.finalize());
    file.write_all(&Last { lines, sha256: sha256.clone() }.line()?).map_err(failed)?;
    let draft = file.into_inner().map_err(|error| failed(error.into_error()))?;
    draft.publish().map_err(failed)?;
    if as_json {
        return out::json(&json!({ "did": did.as_str(), "lines": lines, "sha256": sha256 }));
    }
    out::line(format!("{}: {lines} records and deletions of {did}", path.display()))
}

/// One line of the file.
trait ErasedLine {
    fn line(&self) -> Result<Vec<u8>, Failure>;
}

impl<T: Serialize> ErasedLine for T {
    fn line(&self) -> Result<Vec<u8>, Failure> {
        let mut line =
            serde_json::to_vec(self).map_err(|error| Failure::Failed(error.to_string()))?;
        line.push(b'\n');
        Ok(line)
    }
}
