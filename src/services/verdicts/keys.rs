//! Step 7: the key that a keyid names.

use super::denied::Denied;
use crate::domain::DidUrl;
use crate::services::ResolvedDid;
use crate::signatures::VerifyingKey;

/// The key to verify by, or why there is none now.
pub(super) fn key_of<'r>(
    key_id: &DidUrl,
    resolved: &'r ResolvedDid,
) -> Result<&'r VerifyingKey, Denied> {
    select(key_id, resolved).map_err(|unknown| {
        let did = || key_id.did().clone();
        if resolved.is_revoked() {
            // Before its key was seen.
            Denied::KeyRevoked(did())
        } else if resolved.stale_for.is_some() {
            // Its home may have the key by now.
            Denied::KeyUnavailable(did())
        } else {
            unknown
        }
    })
}

/// The key that a `keyid` names: the one with its fragment, else the only one there is.
fn select<'a>(key_id: &DidUrl, resolved: &'a ResolvedDid) -> Result<&'a VerifyingKey, Denied> {
    let methods = || resolved.verification_methods.iter().filter(|method| method.authentication);
    let unknown = |reason: String| Denied::KeyUnknown(reason);
    let (mut all, url) = (methods(), key_id.to_string());
    match (key_id.fragment(), all.next(), all.next()) {
        (Some(_), ..) => {
            let named = methods().find(|method| method.id == url);
            named.map(|method| &method.verifying_key).ok_or_else(|| {
                let unusable = resolved.unusable_methods.iter();
                match unusable.into_iter().find(|method| method.id.as_ref() == Some(&url)) {
                    Some(method) => unknown(format!("{url} cannot be used: {}", method.reason)),
                    None => unknown(format!("{} has no key {url} that may sign", key_id.did())),
                }
            })
        }
        (None, Some(only), None) => Ok(&only.verifying_key),
        (None, None, _) => Err(unknown(format!("{} has no key that may sign", key_id.did()))),
        (None, Some(_), Some(_)) => Err(unknown(format!(
            "{} has several keys: name one in the keyid, by its fragment",
            key_id.did()
        ))),
    }
}
