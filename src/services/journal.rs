//! The journal of revocations: a file in the data folder that has, for some days, every revocation
//! that this instance made or heard of, and every stored key that it replaced. A database that goes
//! back in time forgets them, and every recovery learns them again from here.
//!
//! A line is written and synced after the database's commit and before the caller's answer. It
//! must never keep a revocation from being made: a journal that cannot be written is an error in the
//! log and in the metrics, and the revocation stands.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::clock::Clock;
use crate::data_dir::{private_file, sync_name};
use crate::domain::{Did, KeyType, NewDid, OwnType, PublicKey, Timestamp, rfc3339};
use crate::metrics::Metrics;
use crate::storage::{Act, Remembered};

/// The file in the data folder.
pub const JOURNAL_FILE: &str = "revocations";
/// How long an entry is kept. A copy that is older than that has forgotten more than is known here.
const KEPT: chrono::Duration = chrono::Duration::days(7);
/// From this size on, what is too old or was done again is left out.
const COMPACTED_FROM: u64 = 4 * 1024 * 1024;

/// The journal of one data folder. Clones write the same file.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    path: PathBuf,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// A line that is no entry.
#[derive(Debug, thiserror::Error)]
#[error("line {line} is no revocation: {why}")]
pub struct InvalidEntry {
    pub line: usize,
    pub why: &'static str,
}

impl Journal {
    #[must_use]
    pub fn of(data_dir: &Path, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner { path: data_dir.join(JOURNAL_FILE), clock, metrics }))
    }

    /// This machine's clock, for what is heard of without a time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Writes what was just done. When this returns, a power cut leaves it there, or the failure was
    /// told.
    pub async fn write(&self, at: Timestamp, act: Act) {
        let inner = Arc::clone(&self.0);
        let done = spawn_blocking(move || inner.append(&Remembered { at, act })).await;
        if let Err(error) = done.unwrap_or_else(|error| Err(io::Error::other(error))) {
            self.0.metrics.journal_failures.inc();
            tracing::error!(
                %error,
                file = %self.0.path.display(),
                "a revocation stands, and could not be written to the journal: after a restore of a \
                 copy that was made before, it must be made again by hand"
            );
        }
    }
}

impl Inner {
    fn append(&self, entry: &Remembered) -> io::Result<()> {
        let _locked = lock(&self.path)?;
        let mut file = private_file(&self.path)?;
        let length = file.seek(SeekFrom::End(0))?;
        // A line that was cut short by a crash stays alone.
        let mut line =
            if ends_a_line(&mut file, length)? { String::new() } else { "\n".to_owned() };
        line += &line_of(entry).to_string();
        line.push('\n');
        file.seek(SeekFrom::End(0))?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        if length == 0 {
            sync_name(&self.path)?;
        }
        if length >= COMPACTED_FROM { compact(&self.path, self.clock.now()) } else { Ok(()) }
    }
}

/// Keeps other processes from writing until it is dropped: `onceguard token revoke` runs beside a
/// service.
fn lock(path: &Path) -> io::Result<File> {
    let file = private_file(&path.with_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

fn ends_a_line(file: &mut File, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Writes the file anew, without what is too old or was done again later.
fn compact(path: &Path, now: Timestamp) -> io::Result<()> {
    let mut kept: BTreeMap<String, Remembered> = BTreeMap::new();
    for entry in parse(&std::fs::read_to_string(path)?).into_iter().flatten() {
        if entry.at > now - KEPT {
            kept.insert(entry.act.to_string(), entry);
        }
    }
    let mut kept: Vec<_> = kept.into_values().collect();
    kept.sort_by_key(|entry| entry.at);
    let text = lines(&kept);
    let draft = path.with_extension("draft");
    let _ = std::fs::remove_file(&draft);
    let mut file = private_file(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    sync_name(path)
}

/// What the journal of this folder has, oldest first. Lines that cannot be read, such as one that a
/// crash cut short, are counted.
pub fn remembered(data_dir: &Path) -> io::Result<(Vec<Remembered>, usize)> {
    let text = match std::fs::read_to_string(data_dir.join(JOURNAL_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        text => text?,
    };
    let lines = parse(&text);
    let unreadable = lines.iter().filter(|line| line.is_err()).count();
    Ok((sorted(lines.into_iter().flatten().collect()), unreadable))
}

/// Reads a journal, or other lines of JSON that have events of the log, also in CloudEvents' form. Of these, only those
/// that revoke something or store a key count.
///
/// # Errors
/// The first line that is no event.
pub fn read_events(text: &str) -> Result<Vec<Remembered>, InvalidEntry> {
    Ok(sorted(parse(text).into_iter().collect::<Result<_, _>>()?))
}

fn sorted(mut entries: Vec<Remembered>) -> Vec<Remembered> {
    entries.sort_by_key(|entry| entry.at);
    entries
}

fn lines(entries: &[Remembered]) -> String {
    let mut text = String::new();
    for entry in entries {
        text += &line_of(entry).to_string();
        text.push('\n');
    }
    text
}

/// As the log of events has it: `{"at", "type", "subject", "data"}`.
fn line_of(Remembered { at, act }: &Remembered) -> Value {
    let (kind, subject, data) = match act {
        Act::RevokeDid(did) => (OwnType::DidRevoked, did.to_string(), json!({})),
        Act::RevokeToken(id) => (OwnType::TokenRevoked, id.to_string(), json!({})),
        Act::ReplaceKey(new) => (OwnType::DidStored, new.did.to_string(), key_data(new)),
    };
    json!({ "at": rfc3339(*at), "type": kind.as_str(), "subject": subject, "data": data })
}

/// What the log says of a key that was stored.
pub(super) fn key_data(new: &NewDid) -> Value {
    json!({
        "key_type": new.key.key_type().as_str(),
        "public_key": STANDARD.encode(new.key.as_bytes()),
        "owner_address": new.owner_address,
    })
}

fn parse(text: &str) -> Vec<Result<Remembered, InvalidEntry>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.filter_map(|(index, line)| match entry(line) {
        Ok(entry) => entry.map(Ok),
        Err(why) => Some(Err(InvalidEntry { line: index + 1, why })),
    });
    parsed.collect()
}

/// `None` for an event that a recovery need not learn again.
fn entry(line: &str) -> Result<Option<Remembered>, &'static str> {
    let event: Value = serde_json::from_str(line).map_err(|_| "it is not JSON")?;
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    // Until there was one log of events, journals and the audit log said `action` and `detail`.
    let kind = text("type").or_else(|| text("action")).ok_or("it has no type")?;
    let kind = match kind {
        "did.revoke" => OwnType::DidRevoked,
        "token.revoke" => OwnType::TokenRevoked,
        "did.put" => OwnType::DidStored,
        _ => match OwnType::ALL.iter().find(|own| own.as_str() == kind) {
            Some(own) => *own,
            None => return Ok(None),
        },
    };
    let subject = || text("subject").ok_or("it has no subject");
    let did = || Did::parse(subject()?).map_err(|_| "its subject is no DID");
    let data = event.get("data").or_else(|| event.get("detail"));
    let act = match kind {
        OwnType::DidRevoked => Act::RevokeDid(did()?),
        OwnType::TokenRevoked => Act::RevokeToken(
            Uuid::parse_str(subject()?).map_err(|_| "its subject is no token's id")?,
        ),
        OwnType::DidStored => Act::ReplaceKey(stored_key(did()?, data).ok_or("it has no key")?),
        _ => return Ok(None),
    };
    // Archives count microseconds.
    let at = match event.get("at").or_else(|| event.get("time")) {
        Some(Value::String(at)) => at.parse().ok(),
        Some(Value::Number(at)) => at.as_i64().and_then(Timestamp::from_timestamp_micros),
        _ => None,
    };
    Ok(Some(Remembered { at: at.ok_or("it has no time")?, act }))
}

fn stored_key(did: Did, data: Option<&Value>) -> Option<NewDid> {
    let text = |name| data?.get(name)?.as_str();
    let bytes = STANDARD.decode(text("public_key")?).ok()?;
    let key = PublicKey::new(KeyType::parse(text("key_type")?)?, &bytes).ok()?;
    Some(NewDid { did, key, owner_address: text("owner_address").map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_795_176_000 + seconds, 0).unwrap()
    }

    fn acts() -> Vec<Act> {
        let did = |text| Did::parse(text).unwrap();
        // RFC 8037, appendix A.2.
        let key = STANDARD.decode("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").unwrap();
        let key = PublicKey::new(KeyType::Ed25519, &key).unwrap();
        let owner_address = Some("0xabc".to_owned());
        vec![
            Act::RevokeDid(did("did:example:one")),
            Act::RevokeToken(Uuid::from_bytes([1; 16])),
            Act::ReplaceKey(NewDid { did: did("did:example:two"), key, owner_address }),
        ]
    }

    fn entries() -> Vec<Remembered> {
        let entry = |(n, act)| Remembered { at: at(n), act };
        (0..).zip(acts()).map(entry).collect()
    }

    #[tokio::test]
    async fn what_is_written_is_remembered() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(remembered(folder.path()).unwrap(), (Vec::new(), 0));
        let metrics = Arc::new(Metrics::new().unwrap());
        let journal = Journal::of(folder.path(), Clock::system(), metrics.clone());
        for act in acts() {
            journal.write(journal.now(), act).await;
        }
        let path = folder.path().join(JOURNAL_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (found, unreadable) = remembered(folder.path()).unwrap();
        assert!(found.iter().map(|entry| &entry.act).eq(&acts()) && unreadable == 0, "{found:?}");
        // A crash cut the last line short.
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.truncate(text.len() - 20);
        std::fs::write(&path, text).unwrap();
        journal.write(at(0), acts().remove(0)).await;
        let (found, unreadable) = remembered(folder.path()).unwrap();
        assert_eq!((found.len(), unreadable), (3, 1));
        assert_eq!(metrics.journal_failures.get(), 0);
    }

    #[tokio::test]
    async fn a_journal_that_cannot_be_written_is_counted() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let journal = Journal::of(Path::new("/no/such/folder"), Clock::system(), metrics.clone());
        journal.write(at(0), acts().remove(0)).await;
        assert_eq!(metrics.journal_failures.get(), 1);
    }

    #[test]
    fn compaction_leaves_out_what_is_old_or_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL_FILE);
        let old = Remembered { at: at(-1), act: acts().remove(1) };
        let again = Remembered { at: at(9), act: acts().remove(0) };
        let all = [vec![old], entries(), vec![again.clone()]].concat();
        std::fs::write(&path, lines(&all)).unwrap();
        compact(&path, at(1) + KEPT).unwrap();
        let expected = vec![entries().remove(2), again];
        assert_eq!(remembered(folder.path()).unwrap(), (expected, 0));
    }

    #[test]
    fn events_of_the_log_are_read_in_any_order() {
        let entries = entries();
        let mut text = lines(&entries.iter().rev().cloned().collect::<Vec<_>>());
        text +=
            "\n{\"id\":\"x\",\"at\":1,\"type\":\"onceguard.session.ended\",\"subject\":\"y\"}\n";
        let last = json!({ "at": at(50).timestamp_micros(), "actor": "operator",
            "type": "onceguard.did.revoked", "subject": "did:a:b" });
        text += &last.to_string();
        let found = read_events(&text).unwrap();
        assert_eq!(found[..3], entries);
        assert_eq!((found[3].at, found[3].act.to_string()), (at(50), "DID did:a:b".to_owned()));
        for (line, why) in [
            ("no JSON", "it is not JSON"),
            ("{}", "it has no type"),
            (r#"{"action":"did.revoke","at":1}"#, "it has no subject"),
            (r#"{"action":"did.revoke","subject":"did:a:b"}"#, "it has no time"),
            (r#"{"action":"did.put","subject":"did:a:b","at":1}"#, "it has no key"),
            (r#"{"action":"token.revoke","subject":"did:a:b","at":1}"#, "no token's id"),
        ] {
            let error = read_events(&format!("\n{line}\n")).unwrap_err();
            assert!(error.line == 2 && error.to_string().contains(why), "{error}");
        }
    }
}
