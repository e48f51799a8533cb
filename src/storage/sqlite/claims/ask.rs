//! An ask, as it waits for the writer.

use crate::domain::{
    Ask, Claim, Did, IdempotencyDigest, Namespace, Nonce, Scope, SessionId, Timestamp,
};

pub(super) type Key = [u8; 16];

/// An ask that borrows nothing from its caller, because the caller may be gone before it is
/// decided.
pub(crate) struct OwnedAsk {
    pub(super) scope: OwnedScope,
    pub(super) nonce: Nonce,
    pub(super) idempotency: Option<IdempotencyDigest>,
    pub(super) wants_row: bool,
}

pub(super) enum OwnedScope {
    Session(Key),
    Signer { did: Did, session: Option<Key>, signed: Signed },
    Namespace { namespace: Namespace, signed: Signed },
}

/// What a nonce that is not a session's says of itself.
#[derive(Clone, Copy)]
pub(super) struct Signed {
    /// The key of its signer or namespace.
    pub(super) key: Key,
    pub(super) expires_at: Timestamp,
    pub(super) issued_at: Option<Timestamp>,
}

impl OwnedScope {
    /// Sessions first, then the others; each in the order of their primary keys.
    pub(super) const fn order(&self) -> (u8, Key) {
        match self {
            Self::Session(key) => (0, *key),
            Self::Signer { signed, .. } | Self::Namespace { signed, .. } => (1, signed.key),
        }
    }
}

impl From<&Ask<'_>> for OwnedAsk {
    fn from(ask: &Ask<'_>) -> Self {
        let Claim { scope, nonce, idempotency } = ask.claim;
        let scope = match scope {
            Scope::Session(id) => OwnedScope::Session(id.0.into_bytes()),
            Scope::Signer { did, expires_at, issued_at, session } => OwnedScope::Signer {
                did: did.clone(),
                session: session.map(|SessionId(id)| id.into_bytes()),
                signed: Signed {
                    key: did.signer_key().0,
                    expires_at: *expires_at,
                    issued_at: *issued_at,
                },
            },
            Scope::Namespace { namespace, expires_at, issued_at } => OwnedScope::Namespace {
                namespace: namespace.clone(),
                signed: Signed {
                    key: namespace.key().0,
                    expires_at: *expires_at,
                    issued_at: *issued_at,
                },
            },
        };
        let (nonce, idempotency) = (nonce.clone(), *idempotency);
        Self { scope, nonce, idempotency, wants_row: ask.wants_row }
    }
}

impl OwnedAsk {
    /// The session that a signer's claim names, and the signer.
    pub(super) fn named_session(&self) -> Option<(&Key, &Did)> {
        match &self.scope {
            OwnedScope::Session(_) | OwnedScope::Namespace { .. } => None,
            OwnedScope::Signer { session, did, .. } => session.as_ref().map(|id| (id, did)),
        }
    }
}
