//! A request of which all but the last two checks are done, and one that passed them all.

use super::case::Seen;
use super::denied::Denied;
use crate::domain::{Code, Did, DidUrl, IdempotencyDigest, SessionId, Timestamp};
use crate::metrics::Metrics;
use crate::signatures::{Checked, ContentDigest, NamedSession};

/// A request whose signature verified. Until [`super::Verdicts::accept`] has spent its nonce, it may
/// still be a replay.
pub struct Verified<'a> {
    pub(super) checked: Checked<'a>,
    pub(super) key_id: DidUrl,
    pub(super) alg: &'static str,
    pub(super) session: Option<NamedSession>,
    pub(super) counts: bool,
    pub(super) repeat: Option<IdempotencyDigest>,
    pub(super) seen: &'a Seen,
    pub(super) metrics: &'a Metrics,
}

impl Verified<'_> {
    /// Who signed.
    #[must_use]
    pub const fn did(&self) -> &Did {
        self.key_id.did()
    }

    /// Step 11, and what step 6 asks of a body, where the body was awaited: it is here now.
    ///
    /// # Errors
    /// The check that it did not pass.
    pub fn check_content(&self, content: &[u8]) -> Result<(), Denied> {
        self.checked.check_content(content).map_err(|refused| {
            let profile = &self.checked.profile().name;
            self.metrics.verdict(Code::from(&refused).as_str(), profile);
            refused.into()
        })
    }
}

/// A request that passed every check, and whose nonce is now spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub did: Did,
    pub keyid: String,
    pub alg: &'static str,
    pub profile: String,
    pub created: Timestamp,
    pub expires: Timestamp,
    pub nonce: String,
    /// The covered components, as identifiers (RFC 9421, section 2).
    pub covered: Vec<String>,
    /// What the signed `Content-Digest` says. The body was compared with it where it was seen.
    pub content_digest: Option<ContentDigest>,
    pub session: Option<SessionId>,
    /// An earlier call spent the nonce; this one repeats its verdict.
    pub repeated: bool,
}
