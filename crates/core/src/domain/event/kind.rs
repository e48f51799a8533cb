//! The types of events: the service's own, which are one closed list, and those of callers.

use std::fmt;

/// What the service's own types begin with, and no caller's.
pub const OWN_PREFIX: &str = "onceguard.";

/// Gives the types an enum, and their names.
macro_rules! own_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A type of the service's own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum OwnType {
            $($(#[$doc])* $variant,)*
        }

        impl OwnType {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("onceguard.", $name),)*
                }
            }
        }
    };
}

own_types! {
    BackupMade = "backup.made",
    /// A nonce was claimed again.
    ClaimReplayed = "claim.replayed",
    DatabaseAdopted = "database.adopted",
    DatabasePurged = "database.purged",
    DatabaseRecovered = "database.recovered",
    DidErased = "did.erased",
    DidForgotten = "did.forgotten",
    DidRevoked = "did.revoked",
    DidStored = "did.stored",
    /// What is left of an event that an erasure or the purge took the content from.
    Erased = "erased",
    /// The purge emptied events of callers.
    EventsPurged = "events.purged",
    /// An instance started, with this configuration.
    InstanceStarted = "instance.started",
    /// The purge removes the beginning of the log.
    LogCut = "log.cut",
    RecordsDeleted = "records.deleted",
    SealingRotated = "sealing.rotated",
    SessionChanged = "session.changed",
    SessionEnded = "session.ended",
    SessionKeyRead = "session.key_read",
    SessionsEnded = "sessions.ended",
    /// A signed message came again.
    SignatureReplayed = "signature.replayed",
    TokenCreated = "token.created",
    /// Tokens that are not valid came from one place, again and again.
    TokenRefused = "token.refused",
    TokenRevoked = "token.revoked",
    TransferBegan = "transfer.began",
    TransferCancelled = "transfer.cancelled",
    WebhookChanged = "webhook.changed",
    WebhookCreated = "webhook.created",
    WebhookDeleted = "webhook.deleted",
    /// Its receiver said that it is gone.
    WebhookDisabled = "webhook.disabled",
}

/// The type of an event: what happened, in words that programs choose by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EventType {
    Own(OwnType),
    Callers(CallersType),
}

/// A caller's type, such as `example.order.paid`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallersType(String);

/// Why a text is no caller's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidType {
    #[error("must be 1 to 255 letters, digits, dots, hyphens and underscores")]
    Form,
    #[error("must not begin with {OWN_PREFIX}, as the types of the service's own events do")]
    Own,
}

impl CallersType {
    /// The longest, in bytes.
    pub const MAX_LEN: usize = 255;

    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidType> {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if !(1..=Self::MAX_LEN).contains(&text.len()) || !text.bytes().all(is_fit) {
            return Err(InvalidType::Form);
        }
        // A reader who does not look at the case is not misled, either.
        let begins = text.get(..OWN_PREFIX.len());
        if begins.is_some_and(|begins| begins.eq_ignore_ascii_case(OWN_PREFIX)) {
            return Err(InvalidType::Own);
        }
        Ok(Self(text.to_owned()))
    }
}

impl EventType {
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Own(own) => own.as_str(),
            Self::Callers(CallersType(text)) => text,
        }
    }
}

impl From<OwnType> for EventType {
    fn from(own: OwnType) -> Self {
        Self::Own(own)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_type_is_none_of_the_services() {
        let long = "x".repeat(CallersType::MAX_LEN);
        for fit in ["example.order.paid", "x", "onceguard", "onceguardian.x", "A-b_1", &long] {
            assert_eq!(CallersType::parse(fit).unwrap().0, fit);
        }
        for own in ["onceguard.", "onceguard.did.revoked", "OnceGuard.x"] {
            assert_eq!(CallersType::parse(own), Err(InvalidType::Own), "{own}");
        }
        for other in ["", "a b", "a\n", "é", "a/b", &format!("{long}x")] {
            assert_eq!(CallersType::parse(other), Err(InvalidType::Form), "{other:?}");
        }
    }

    #[test]
    fn no_two_types_have_one_name() {
        let mut names: Vec<_> = OwnType::ALL.iter().map(|own| own.as_str()).collect();
        names.dedup();
        assert_eq!(names.len(), OwnType::ALL.len());
        assert!(names.is_sorted(), "by name, so that each is found and none is there twice");
        assert!(names.iter().all(|name| name.starts_with(OWN_PREFIX)));
    }
}
