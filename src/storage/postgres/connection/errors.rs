//! What an error of the driver means for whoever called the store: did nothing happen, can it
//! not be known, is it worth another try. Only the server's message is kept, never its detail,
//! which may quote a row.
//!
//! Diesel hands no SQLSTATE on, and messages are in the server's language; so this goes by the
//! kinds that Diesel knows, and by whether the connection survived. An error that leaves the
//! connection usable aborted its statement. After one that does not (`FATAL`, `PANIC`), a
//! commit that was under way may have happened.

use diesel::result::{DatabaseErrorKind, Error};

use crate::storage::StoreError;

/// What `mark_commit()` says of a connection that was not checked, or before the last recovery.
const NOT_CHECKED: &str = "onceguard: the connection is not checked";

/// What an operation was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InFlight {
    /// Nothing that could have been committed.
    NoCommit,
    /// A statement that commits by itself, or a `COMMIT`.
    Commit,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The connection is gone, or no answer came.
    Lost(String),
    /// The server rolled back because of others; another try may pass.
    Conflict(String),
    /// The server takes no writes (any more); another one may, at the same address.
    ReadOnly(String),
    /// The connection has to be checked before it decides; another one may have been.
    Unchecked(String),
    /// The server refused the statement: it took too long, was cancelled, lacks a table, …
    Refused(String),
    /// The store sent or read what it should not have.
    Fault(String),
}

impl Trouble {
    pub(crate) fn of(error: &Error) -> Self {
        let Error::DatabaseError(kind, info) = error else {
            return match error {
                Error::BrokenTransactionManager | Error::RollbackErrorOnCommit { .. } => {
                    Self::Lost(error.to_string())
                }
                _ => Self::Fault(error.to_string()),
            };
        };
        let message = info.message().to_owned();
        match kind {
            DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection => {
                Self::Lost(message)
            }
            // A row that was referred to went away meanwhile: the next look no longer finds it.
            DatabaseErrorKind::SerializationFailure | DatabaseErrorKind::ForeignKeyViolation => {
                Self::Conflict(message)
            }
            DatabaseErrorKind::Unknown if message == NOT_CHECKED => Self::Unchecked(message),
            DatabaseErrorKind::Unknown if names_lock_modes(info.details()) => {
                Self::Conflict(message)
            }
            DatabaseErrorKind::ReadOnlyTransaction => Self::ReadOnly(message),
            DatabaseErrorKind::Unknown => Self::Refused(message),
            _ => Self::Fault(message),
        }
    }

    pub(crate) fn into_error(self, in_flight: InFlight) -> StoreError {
        match (self, in_flight) {
            (Self::Lost(why), InFlight::Commit) => StoreError::OutcomeUnknown(why),
            (
                Self::Lost(why)
                | Self::Conflict(why)
                | Self::ReadOnly(why)
                | Self::Unchecked(why)
                | Self::Refused(why),
                _,
            ) => StoreError::Unavailable(why),
            (Self::Fault(why), _) => StoreError::Unexpected(why),
        }
    }
}

/// A row that this binary cannot read, as Diesel's error.
pub(in crate::storage::postgres) fn unreadable(what: impl std::fmt::Display) -> Error {
    Error::DeserializationError(what.to_string().into())
}

/// The error of the call that met a row which cannot be read. It is no other call's.
pub(in crate::storage::postgres) fn of_its_row(error: &Error) -> StoreError {
    Trouble::of(error).into_error(InFlight::NoCommit)
}

/// Whether this is the detail of a deadlock (40P01): it lists who waits for which lock, and the
/// names of lock modes are not translated.
fn names_lock_modes(details: Option<&str>) -> bool {
    details.is_some_and(|text| text.contains("ShareLock") || text.contains("ExclusiveLock"))
}

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorInformation;

    use super::*;

    struct Deadlock;

    impl DatabaseErrorInformation for Deadlock {
        fn message(&self) -> &'static str {
            "Verklemmung entdeckt"
        }
        fn details(&self) -> Option<&str> {
            Some("Prozess 1 wartet auf ShareLock-Sperre auf Transaktion 2; blockiert von 3.")
        }
        fn hint(&self) -> Option<&str> {
            None
        }
        fn table_name(&self) -> Option<&str> {
            None
        }
        fn column_name(&self) -> Option<&str> {
            None
        }
        fn constraint_name(&self) -> Option<&str> {
            None
        }
        fn statement_position(&self) -> Option<i32> {
            None
        }
    }

    fn trouble(kind: DatabaseErrorKind) -> Trouble {
        Trouble::of(&Error::DatabaseError(kind, Box::new("why".to_owned())))
    }

    #[test]
    fn a_lost_connection_leaves_a_commit_unknown_and_nothing_else() {
        let lost = trouble(DatabaseErrorKind::UnableToSendCommand);
        assert_eq!(lost, Trouble::Lost("why".into()));
        let unknown = StoreError::OutcomeUnknown("why".into());
        assert_eq!(lost.clone().into_error(InFlight::Commit), unknown);
        let unavailable = StoreError::Unavailable("why".into());
        assert_eq!(lost.into_error(InFlight::NoCommit), unavailable);
    }

    #[test]
    fn what_the_server_refused_did_not_happen() {
        let (refused, read_only) =
            (Trouble::Refused("why".into()), Trouble::ReadOnly("why".into()));
        assert_eq!(trouble(DatabaseErrorKind::Unknown), refused);
        assert_eq!(trouble(DatabaseErrorKind::ReadOnlyTransaction), read_only);
        for trouble in [refused, read_only] {
            let unavailable = StoreError::Unavailable("why".into());
            assert_eq!(trouble.into_error(InFlight::Commit), unavailable);
        }
    }

    #[test]
    fn a_connection_that_was_not_checked_decided_nothing() {
        let error =
            Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(NOT_CHECKED.to_owned()));
        let trouble = Trouble::of(&error);
        assert_eq!(trouble, Trouble::Unchecked(NOT_CHECKED.into()));
        let unavailable = StoreError::Unavailable(NOT_CHECKED.into());
        assert_eq!(trouble.into_error(InFlight::Commit), unavailable);
    }

    #[test]
    fn conflicts_are_tried_again() {
        for kind in
            [DatabaseErrorKind::SerializationFailure, DatabaseErrorKind::ForeignKeyViolation]
        {
            assert_eq!(trouble(kind), Trouble::Conflict("why".into()));
        }
        let deadlock = Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(Deadlock));
        assert_eq!(Trouble::of(&deadlock), Trouble::Conflict("Verklemmung entdeckt".into()));
    }

    #[test]
    fn a_broken_rule_is_our_fault() {
        for kind in [DatabaseErrorKind::CheckViolation, DatabaseErrorKind::UniqueViolation] {
            assert_eq!(trouble(kind), Trouble::Fault("why".into()));
        }
        assert!(matches!(Trouble::of(&Error::NotFound), Trouble::Fault(_)));
    }
}
