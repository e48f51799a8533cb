//! A request to judge, and what is found out of it on the way.

use std::sync::OnceLock;

use crate::config::AllowedAgents;
use crate::domain::{Did, IdempotencyDigest, Peer, SessionId};
use crate::signatures::{NamedSession, Request};

/// A request to judge.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub request: Request<'a>,
    /// The profile's name; `None` is `onceguard`.
    pub profile: Option<&'a str>,
    /// The session that the request belongs to, as its receiver knows it. It, or the one that the
    /// request itself names, must be live, and the signer a party; no request belongs to two.
    pub session: Option<SessionId>,
    /// Whether the request counts as a claim in its session. A call of this service itself does
    /// not: its signature is the caller's credential.
    pub counts: bool,
    /// Who had it judged: what the look-ups of its key cost is on this account.
    pub peer: Peer,
    /// The only signers to look at, where it matters; another is refused before its key is
    /// looked up.
    pub signers: Option<&'a AllowedAgents>,
    /// Tells the caller's repeat of the same call, whose first answer was lost.
    pub repeat: Option<IdempotencyDigest>,
    /// Learns what is found out of the request.
    pub seen: &'a Seen,
}

impl Case<'_> {
    /// The session that must be live. Of two there is none.
    pub(super) fn belongs_to(&self) -> Option<NamedSession> {
        match (self.request.named_session(), self.session) {
            (None, known) => known.map(NamedSession::Id),
            (Some(NamedSession::Id(named)), Some(known)) if named != known => {
                Some(NamedSession::Unreadable)
            }
            (named, _) => named,
        }
    }
}

/// What is found out of a request while it is judged, also when it is refused.
#[derive(Debug, Default)]
pub struct Seen {
    pub(super) profile: OnceLock<String>,
    pub(super) signer: OnceLock<Did>,
    pub(super) accepted: OnceLock<()>,
}

impl Seen {
    /// The name of the profile that it was judged by.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.profile.get().map(String::as_str)
    }

    /// Who signed: by the request's own word, unless it was accepted.
    #[must_use]
    pub fn signer(&self) -> Option<&Did> {
        self.signer.get()
    }

    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.accepted.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signatures::{Body, Target};

    #[test]
    fn a_request_belongs_to_one_session_at_most() {
        let [one, other] = [(); 2].map(|()| SessionId(uuid::Uuid::now_v7()));
        let (id, unreadable) = (NamedSession::Id, Some(NamedSession::Unreadable));
        for (named, known, belongs_to) in [
            (None, None, None),
            (None, Some(one), Some(id(one))),
            (Some(one.to_string()), None, Some(id(one))),
            (Some(one.to_string()), Some(one), Some(id(one))),
            (Some(one.to_string()), Some(other), unreadable),
            (Some("nonsense".to_owned()), None, unreadable),
            (Some("nonsense".to_owned()), Some(one), unreadable),
        ] {
            let headers: Vec<_> = named.iter().map(|id| ("X-Session-Id", id.as_bytes())).collect();
            let request = Request {
                method: "GET",
                target: Target::parse("https://service.example/").unwrap(),
                headers: &headers,
                body: Body::Unseen,
            };
            let case = Case {
                request,
                profile: None,
                session: known,
                counts: true,
                peer: Peer::of_address([192, 0, 2, 1].into()),
                signers: None,
                repeat: None,
                seen: &Seen::default(),
            };
            assert_eq!(case.belongs_to(), belongs_to, "{named:?} {known:?}");
        }
    }
}
