//! Row-level security, which an operator turns on in PostgreSQL for roles that only read: each sees the
//! rows of one DID. The service itself never reads through a policy.

use super::{Result, Store, StoreError};

impl Store {
    /// Has this role see, and only see, the rows of the DID that it sets as `onceguard.did`. Makes the
    /// role if it does not exist. Done again, it makes good what is missing.
    pub async fn secure_rows(&self, reader: &str) -> Result<()> {
        match self {
            Self::Postgres(store) => store.secure_rows(reader).await,
            Self::Sqlite(_) => Err(has_none()),
        }
    }

    /// Takes row-level security away, and what its roles may read. Returns these roles, which stay.
    pub async fn open_rows(&self) -> Result<Vec<String>> {
        match self {
            Self::Postgres(store) => store.open_rows().await,
            Self::Sqlite(_) => Err(has_none()),
        }
    }
}

fn has_none() -> StoreError {
    StoreError::Unsuitable(
        "SQLite has no roles, and no row-level security: it is for PostgreSQL".to_owned(),
    )
}
