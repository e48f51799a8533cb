//! Rotation: seals every session key and every secret of a webhook again with the key that seals now.
//!
//! Each row is swapped only if it still holds what was read, so rotation can run beside the
//! service, be killed and be run again; a key that was wiped meanwhile stays wiped.

use super::{Sealer, SealingError};
use crate::storage::{SealedWebhook, Store};

/// Sessions read at a time.
const BATCH: u32 = 200;

/// What a rotation has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Keys sealed again.
    pub resealed: u64,
    /// Keys that changed or were wiped while they were being sealed again.
    pub changed_meanwhile: u64,
    /// Keys that no configured sealing key opens; they stay as they are.
    pub unreadable: u64,
    /// Sealing keys that nothing needs any more, and that the database has forgotten.
    pub retired: Vec<String>,
}

/// Rotates everything, telling `progress` after each batch.
pub async fn rotate(
    sealer: &Sealer,
    store: &Store,
    mut progress: impl FnMut(&Rotation),
) -> Result<Rotation, SealingError> {
    let mut done = Rotation::default();
    let mut after = None;
    loop {
        let batch = store.sessions_to_reseal(sealer.key_id(), after, BATCH).await?;
        let Some(last) = batch.last() else { break };
        after = Some(last.id);
        for session in &batch {
            let (id, client, server) = (session.id, &session.client_did, &session.server_did);
            let resealed = sealer
                .open(&session.key, id, client, server)
                .and_then(|key| sealer.seal(&key, id, client, server));
            match resealed {
                Ok(new) if store.reseal(id, &session.key, &new).await? => done.resealed += 1,
                Ok(_) => done.changed_meanwhile += 1,
                Err(error) => {
                    tracing::error!(session = %id, %error, "a session key cannot be rotated");
                    done.unreadable += 1;
                }
            }
        }
        progress(&done);
    }
    rotate_webhooks(sealer, store, &mut done).await?;
    progress(&done);
    for key in store.sealing_keys().await? {
        let seals_now = key.key_id == sealer.key_id();
        if !seals_now && key.sessions == 0 && store.retire_sealing_key(&key.key_id).await? {
            done.retired.push(key.key_id);
        }
    }
    Ok(done)
}

/// There are few.
async fn rotate_webhooks(
    sealer: &Sealer,
    store: &Store,
    done: &mut Rotation,
) -> Result<(), SealingError> {
    let others = store.webhooks().await?.into_iter();
    for SealedWebhook { webhook, secret } in
        others.filter(|sealed| sealed.secret.key_id != sealer.key_id())
    {
        let id = webhook.id;
        let resealed =
            sealer.open_webhook(&secret, id).and_then(|opened| sealer.seal_webhook(&opened, id));
        match resealed {
            Ok(new) if store.reseal_webhook(id, &secret, &new).await? => done.resealed += 1,
            Ok(_) => done.changed_meanwhile += 1,
            Err(error) => {
                tracing::error!(webhook = %id, %error, "a webhook's secret cannot be rotated");
                done.unreadable += 1;
            }
        }
    }
    Ok(())
}
