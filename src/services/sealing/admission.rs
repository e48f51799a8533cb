//! The check at start: the configured keys are those that this database was sealed with.

use super::{Sealer, SealingError};
use crate::storage::{KnownSealingKey, Store};

/// Makes the configured keys known to the database, unless they are the wrong ones.
///
/// A key that still seals sessions must be among the configured ones. A sealing key that the
/// database has never seen is accepted only beside one that it has (a rotation), or when the
/// database knows of none (a first start).
///
/// # Errors
/// [`SealingError::Key`] says which key is missing and what to do.
pub async fn admit_keys(sealer: &Sealer, store: &Store) -> Result<(), SealingError> {
    check_keys(sealer, &store.sealing_keys().await?)?;
    for key in sealer.keys.iter() {
        store.add_sealing_key(&key.id, &key.check_value).await?;
    }
    Ok(())
}

/// Whether the configured keys are right for a database that knows of these.
///
/// # Errors
/// As [`admit_keys`].
pub fn check_keys(sealer: &Sealer, known: &[KnownSealingKey]) -> Result<(), SealingError> {
    let configured = |id: &str| sealer.keys.iter().find(|key| key.id == id);
    for key in known {
        match configured(&key.key_id) {
            Some(own) if own.check_value == key.check_value => {}
            Some(_) => {
                return Err(SealingError::Key(format!(
                    "sealing key {} is not the one that this database knows by that id",
                    key.key_id
                )));
            }
            None if key.sessions > 0 => {
                return Err(SealingError::Key(format!(
                    "{} sessions hold keys sealed with sealing key {}, which is not configured; \
                     set it as sealing.key, or as one of sealing.old_keys to rotate away from it",
                    key.sessions, key.key_id
                )));
            }
            None => {}
        }
    }
    if !known.is_empty() && !known.iter().any(|key| configured(&key.key_id).is_some()) {
        let ids: Vec<_> = known.iter().map(|key| key.key_id.as_str()).collect();
        return Err(SealingError::Key(format!(
            "the configured sealing key {} is new to this database, which knows {}; configure one \
             of those as well (sealing.old_keys) if you mean to rotate",
            sealer.key_id(),
            ids.join(", ")
        )));
    }
    Ok(())
}
