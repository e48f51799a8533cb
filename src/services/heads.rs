//! Signed heads of the log of events: in the database, in the data folder, and in the service's own
//! log. What has a copy of one finds out when the log before it was written anew.

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::ServiceError;
use crate::data_dir::{private_file, sync_name};
use crate::domain::{Head, HeadKey, InvalidHead, SignedHead};
use crate::metrics::Metrics;
use crate::storage::{KeptHead, Store};

/// The file in the data folder.
pub const HEADS_FILE: &str = "audit-heads";
/// Heads that are read from the database at a time.
const PAGE: u32 = 1000;

/// Signs heads, and writes those of all instances to the data folder.
pub struct Heads {
    store: Store,
    keys: Vec<HeadKey>,
    path: PathBuf,
    metrics: Arc<Metrics>,
    /// The place of the last head in the file; `None` until it was looked up.
    written: Option<u64>,
}

impl Heads {
    /// The first of the keys signs.
    #[must_use]
    pub fn new(store: &Store, keys: Vec<HeadKey>, data_dir: &Path, metrics: &Arc<Metrics>) -> Self {
        let (store, metrics) = (store.clone(), Arc::clone(metrics));
        Self { store, keys, path: data_dir.join(HEADS_FILE), metrics, written: None }
    }

    /// Signs the log's head, if events were linked since the last one.
    pub async fn sign(&mut self) -> Result<(), ServiceError> {
        let chain = self.store.event_chain().await?;
        let written = match self.written {
            Some(written) => written,
            None => last_of(&self.path, chain.origin, &self.keys)
                .map_err(|error| ServiceError::Internal(self.failed(&error)))?,
        };
        self.written = Some(written);
        let signed = self.newest(written).await?;
        if chain.sequence > signed
            && let Some(key) = self.keys.first()
        {
            let (origin, sequence, hash) = (chain.origin, chain.sequence, chain.hash);
            let head = key.sign(Head { origin, sequence, hash, at: chain.observed_at });
            self.store.keep_event_head(head).await?;
            self.metrics.events.heads_signed.inc();
        }
        self.write().await
    }

    /// The place of the newest head in the database, or the one that is in the file.
    async fn newest(&self, mut after: u64) -> Result<u64, ServiceError> {
        while let Some(head) = self.store.event_heads(after, PAGE).await?.pop() {
            after = head.sequence;
        }
        Ok(after)
    }

    /// Writes what the database has and the file has not.
    async fn write(&mut self) -> Result<(), ServiceError> {
        loop {
            let heads = self.store.event_heads(self.written.unwrap_or(0), PAGE).await?;
            let Some(last) = heads.last().map(|head| head.sequence) else { return Ok(()) };
            let notes: Vec<_> = heads.into_iter().filter_map(|head| self.checked(head)).collect();
            for note in &notes {
                tracing::info!(
                    head = note.trim_end().replace('\n', "\\n"),
                    "signed head of the log"
                );
            }
            let path = self.path.clone();
            let appended = spawn_blocking(move || append(&path, &notes)).await;
            if let Err(error) = appended.unwrap_or_else(|error| Err(io::Error::other(error))) {
                self.metrics.events.head_failures.inc();
                return Err(ServiceError::Internal(self.failed(&error)));
            }
            self.written = Some(last);
        }
    }

    /// A head that was not signed by an instance is not handed on.
    fn checked(&self, KeptHead { sequence, note, .. }: KeptHead) -> Option<String> {
        match SignedHead::read(&note, &self.keys) {
            // Another instance may have a newer sealing key already.
            Ok(_) | Err(InvalidHead::OtherKey) => Some(note),
            Err(error) => {
                tracing::error!(sequence, %error, "a head in the database is forged");
                None
            }
        }
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("the heads of the log cannot be kept in {}: {error}", self.path.display())
    }
}

/// The place of the last head of this log in the file.
fn last_of(path: &Path, origin: uuid::Uuid, keys: &[HeadKey]) -> io::Result<u64> {
    let heads = notes_of(path)?.into_iter().filter_map(|note| SignedHead::read(&note, keys).ok());
    let of_this = heads.filter(|signed| signed.head.origin == origin);
    Ok(of_this.map(|signed| signed.head.sequence).max().unwrap_or(0))
}

/// The heads of a file; none if there is no file.
pub fn notes_of(path: &Path) -> io::Result<Vec<String>> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        text => Ok(SignedHead::notes(&text?)),
    }
}

fn append(path: &Path, notes: &[String]) -> io::Result<()> {
    let mut file = private_file(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    // A head that a crash cut short stays alone.
    let mut text = String::new();
    for note in notes {
        text.push('\n');
        text.push_str(note);
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    if length == 0 { sync_name(path) } else { Ok(()) }
}
