//! What SQLite's errors mean for the caller of a store, and for the group in which they occur.
//!
//! Diesel keeps SQLite's message but not its code, so the code is recognised by the texts of
//! `sqlite3_errstr`. They have been stable for decades.

use diesel::result::{DatabaseErrorKind, Error};

use crate::storage::StoreError;

/// Whether `error` undid only its own statement. After any other error, SQLite may have rolled back
/// the whole transaction, and the group must write nothing more.
pub(crate) fn is_isolated(error: &Error) -> bool {
    match error {
        Error::DatabaseError(kind, _) => {
            matches!(
                kind,
                DatabaseErrorKind::UniqueViolation
                    | DatabaseErrorKind::ForeignKeyViolation
                    | DatabaseErrorKind::NotNullViolation
                    | DatabaseErrorKind::CheckViolation
            ) || is_missing_table(error)
        }
        _ => true,
    }
}

/// Whether a table is missing.
fn is_missing_table(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(_, info) if info.message().starts_with("no such table"))
}

/// Whether the file is damaged, or no database at all.
pub(crate) fn is_unreadable(error: &Error) -> bool {
    let Error::DatabaseError(_, info) = error else { return false };
    info.message() == "file is not a database"
        || info.message().starts_with("database disk image is malformed")
        || info.message().starts_with("malformed database schema")
}

/// The error of a statement or of a transaction that did not commit.
pub(crate) fn store_error(error: &Error) -> StoreError {
    match error {
        Error::DatabaseError(kind, info) => {
            let message = info.message();
            if is_isolated(error) && !matches!(kind, DatabaseErrorKind::Unknown) {
                return StoreError::Unexpected(message.to_owned());
            }
            explain(message)
        }
        other => StoreError::Unexpected(other.to_string()),
    }
}

/// The error of a `COMMIT`. Only when the disk itself failed, the outcome is unknown.
pub(crate) fn commit_error(error: &Error) -> StoreError {
    match error {
        Error::DatabaseError(_, info) if info.message().contains("I/O error") => {
            StoreError::OutcomeUnknown(info.message().to_owned())
        }
        Error::DatabaseError(_, info) => explain(info.message()),
        other => StoreError::Unavailable(other.to_string()),
    }
}

fn explain(message: &str) -> StoreError {
    if message.starts_with("no such table") || message.starts_with("no such column") {
        return StoreError::Migration(format!(
            "the database does not have this binary's schema ({message}); \
             run `onceguard migrate up`"
        ));
    }
    StoreError::Unavailable(match message {
        "database or disk is full" => "the disk is full; free some space".to_owned(),
        "database disk image is malformed" => {
            "the database file is damaged; stop the service and restore a backup".to_owned()
        }
        "file is not a database" => {
            "the file is not an SQLite database; check the path in DATABASE_URL".to_owned()
        }
        "attempt to write a readonly database" => {
            "the database file or its folder cannot be written; check their owner and mode"
                .to_owned()
        }
        "disk I/O error" => {
            "the disk failed, is full, or cannot be written (SQLite: disk I/O error); check its free \
             space, the owner and mode of the folder, and the kernel's log"
                .to_owned()
        }
        "unable to open database file" => {
            "a file beside the database cannot be made; check the owner and mode of its folder"
                .to_owned()
        }
        "database is locked" => "another process holds the database's write lock".to_owned(),
        other => other.to_owned(),
    })
}
