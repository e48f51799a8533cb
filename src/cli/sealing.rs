//! `onceguard sealing`: the keys that seal session keys at rest. A key is printed only by the
//! command that makes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Failure, database, out, quiet};
use crate::config::{Config, Need, Sources};
use crate::domain::{Actor, NewEvent, OwnType};
use crate::services::{
    Rotation, Sealer, SealingError, SealingKeys, admit_keys, generate_key, rotate,
};
use crate::storage::Store;

#[derive(Debug, Subcommand)]
pub(super) enum Sealing {
    /// Seal every session key again, with the present sealing key
    #[command(after_help = "To change the key while every instance can always open every \
        session key:\n  \
        1. onceguard sealing generate, and keep the new key\n  \
        2. add it to sealing.old_keys of every instance, and restart them\n  \
        3. make it sealing.key of every instance, with the former one in sealing.old_keys, and \
        restart them\n     \
        (DATA_DIR/sealing.key: one key a line, the first seals, the others only open)\n  \
        4. onceguard sealing rotate; it can be stopped at any time, and run again\n  \
        5. onceguard sealing status; remove the former key when no session needs it\n\n\
        Example:\n  onceguard sealing rotate --json")]
    Rotate {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the keys that the database knows, and how many sessions need each
    #[command(after_help = "Example:\n  onceguard sealing status --json")]
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a new random key
    #[command(after_help = "Example:\n  ONCEGUARD_SEALING__KEY=$(onceguard sealing generate)")]
    Generate,
}

impl Sealing {
    pub(super) async fn run(self, sources: &Sources) -> Result<(), Failure> {
        match self {
            Self::Generate => {
                let key = generate_key()?;
                out::line(Zeroizing::new(STANDARD.encode(*key.0)).as_str())
            }
            Self::Rotate { json } => {
                let config = quiet(sources, Need::Everything)?;
                let sealer = sealer(&config)?;
                let store = database::open_migrated(&config).await?;
                let rotation = rotate_all(&sealer, &store).await;
                store.close().await;
                report(&rotation?, &sealer, json)
            }
            Self::Status { json } => {
                let config = quiet(sources, Need::Everything)?;
                let sealer = sealer(&config)?;
                let store = database::open_migrated(&config).await?;
                let known = store.sealing_keys().await;
                store.close().await;
                let keys: Vec<_> = known?
                    .into_iter()
                    .map(|key| (role(&sealer, &key.key_id), key.key_id, key.sessions))
                    .collect();
                print_keys(&keys, json)
            }
        }
    }
}

impl From<SealingError> for Failure {
    fn from(error: SealingError) -> Self {
        match error {
            SealingError::Key(_) => Self::Refused(error.to_string()),
            SealingError::Store(error) => error.into(),
        }
    }
}

fn sealer(config: &Config) -> Result<Sealer, Failure> {
    let keys = SealingKeys::load(&config.sealing, &config.data_dir, false)?;
    Ok(Sealer::new(&keys))
}

async fn rotate_all(sealer: &Sealer, store: &Store) -> Result<Rotation, Failure> {
    admit_keys(sealer, store).await?;
    let total: u64 = store
        .sealing_keys()
        .await?
        .iter()
        .filter(|key| key.key_id != sealer.key_id())
        .map(|key| key.sessions)
        .sum();
    let progress = |done: &Rotation| {
        let passed = done.resealed + done.changed_meanwhile + done.unreadable;
        out::note(format!("{passed} of about {total} session keys"));
    };
    let rotation = rotate(sealer, store, progress).await?;
    let event = NewEvent::own(
        OwnType::SealingRotated,
        Actor::Operator,
        sealer.key_id(),
        &json!({ "resealed": rotation.resealed, "retired": rotation.retired }),
    );
    store.publish(vec![event]).await?;
    Ok(rotation)
}

fn report(rotation: &Rotation, sealer: &Sealer, json: bool) -> Result<(), Failure> {
    if json {
        out::json(&json!({
            "key_id": sealer.key_id(),
            "resealed": rotation.resealed,
            "changed_meanwhile": rotation.changed_meanwhile,
            "unreadable": rotation.unreadable,
            "retired": rotation.retired,
        }))?;
    } else {
        out::line(format!(
            "{} session keys are now sealed with {}; {} changed meanwhile",
            rotation.resealed,
            sealer.key_id(),
            rotation.changed_meanwhile
        ))?;
        for key_id in &rotation.retired {
            out::line(format!(
                "no session needs {key_id} any more; remove it from the configuration"
            ))?;
        }
    }
    if rotation.unreadable == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} session keys are damaged, or sealed with a key that is not configured; they were left as they are",
        rotation.unreadable
    )))
}

/// What this configuration does with a key that the database knows.
fn role(sealer: &Sealer, key_id: &str) -> &'static str {
    if sealer.key_id() == key_id {
        "seals"
    } else if sealer.has_key(key_id) {
        "opens"
    } else {
        "not configured"
    }
}

fn print_keys(keys: &[(&str, String, u64)], json: bool) -> Result<(), Failure> {
    if json {
        let items: Vec<_> = keys
            .iter()
            .map(|(role, id, sessions)| json!({ "key_id": id, "role": role, "sessions": sessions }))
            .collect();
        return out::json(&json!({ "keys": items }));
    }
    let rows: Vec<_> =
        keys.iter().map(|(role, id, n)| [id.clone(), (*role).to_owned(), n.to_string()]).collect();
    out::table(["KEY", "ROLE", "SESSIONS"], &rows)
}
