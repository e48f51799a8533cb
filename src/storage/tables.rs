//! The tables as archives know them: the same for both databases, which store the same rows in
//! different types. Each database writes a row of such a table as one line of JSON.

/// A table whose rows an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [Column],
}

/// A column, by its name in both databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
}

/// What a column holds, and how JSON says it. `null` is what it is in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, as a string.
    Text,
    /// Bytes, as a string of lower-case hexadecimal digits.
    Bytes,
    /// A UUID, as its 16 bytes.
    Id,
    /// A list of UUIDs, as the 16 bytes of each, one after the other.
    Ids,
    /// A whole number.
    Number,
    Bool,
    /// A time, as microseconds since 1970 in UTC.
    Time,
    /// JSON, as it is.
    Json,
    /// A list of words, as an array of strings.
    Words,
    /// An IP address, as a string.
    Address,
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind }
}

/// Every table with data, those first that others refer to. The order is that of archives.
pub const TABLES: [Table; 15] = [
    // Its other columns say that it has one row, and (in PostgreSQL) which server it is on.
    Table {
        name: "history",
        columns: &[
            column("purged_until", Kind::Time),
            column("generation", Kind::Id),
            column("ancestors", Kind::Ids),
            column("recovered_at", Kind::Time),
            column("not_before", Kind::Time),
            column("skew_seconds", Kind::Number),
        ],
    },
    Table {
        name: "instances",
        columns: &[
            column("id", Kind::Id),
            column("name", Kind::Text),
            column("host", Kind::Text),
            column("version", Kind::Text),
            column("started_at", Kind::Time),
            column("heartbeat_at", Kind::Time),
            column("ended_at", Kind::Time),
            column("state", Kind::Text),
            column("counter", Kind::Number),
        ],
    },
    Table {
        name: "sealing_keys",
        columns: &[column("key_id", Kind::Text), column("check_value", Kind::Bytes)],
    },
    Table {
        name: "api_tokens",
        columns: &[
            column("id", Kind::Id),
            column("name", Kind::Text),
            column("hash", Kind::Bytes),
            column("scopes", Kind::Words),
            column("created_at", Kind::Time),
            column("expires_at", Kind::Time),
            column("last_used_at", Kind::Time),
            column("revoked_at", Kind::Time),
        ],
    },
    Table {
        name: "leases",
        columns: &[
            column("name", Kind::Text),
            column("holder", Kind::Text),
            column("taken_at", Kind::Time),
            column("until", Kind::Time),
            column("finished_at", Kind::Time),
        ],
    },
    Table {
        name: "dids",
        columns: &[
            column("did", Kind::Text),
            column("public_key", Kind::Bytes),
            column("key_type", Kind::Text),
            column("owner_address", Kind::Text),
            column("document", Kind::Json),
            column("gone", Kind::Text),
            column("revoked", Kind::Bool),
            column("revoked_at", Kind::Time),
            column("source", Kind::Text),
            column("version", Kind::Number),
            column("fetched_at", Kind::Time),
            column("stale_at", Kind::Time),
            column("created_at", Kind::Time),
            column("updated_at", Kind::Time),
        ],
    },
    Table {
        name: "signers",
        columns: &[
            column("signer", Kind::Bytes),
            column("did", Kind::Text),
            column("live", Kind::Number),
        ],
    },
    Table {
        name: "sessions",
        columns: &[
            column("id", Kind::Id),
            column("client_did", Kind::Text),
            column("server_did", Kind::Text),
            // Sealed.
            column("session_key", Kind::Bytes),
            column("key_id", Kind::Text),
            column("created_at", Kind::Time),
            column("expires_at", Kind::Time),
            column("deadline", Kind::Time),
            column("last_activity", Kind::Time),
            column("idle_timeout_seconds", Kind::Number),
            column("max_claims", Kind::Number),
            column("claims", Kind::Number),
            column("metadata", Kind::Json),
            column("user_agent", Kind::Text),
            column("ip_address", Kind::Address),
            column("ended_at", Kind::Time),
            column("end_reason", Kind::Text),
            column("version", Kind::Number),
        ],
    },
    Table {
        name: "nonces",
        columns: &[
            column("session_id", Kind::Id),
            column("nonce", Kind::Text),
            column("used_at", Kind::Time),
            column("expires_at", Kind::Time),
            column("idempotency", Kind::Bytes),
        ],
    },
    Table {
        name: "signer_nonces",
        columns: &[
            column("signer", Kind::Bytes),
            column("nonce", Kind::Text),
            column("used_at", Kind::Time),
            column("expires_at", Kind::Time),
            column("idempotency", Kind::Bytes),
        ],
    },
    Table {
        name: "record_owners",
        columns: &[
            column("id", Kind::Id),
            column("did", Kind::Text),
            column("agent", Kind::Bool),
            column("sequence", Kind::Number),
            column("forgotten", Kind::Number),
            column("records", Kind::Number),
            column("bytes", Kind::Number),
            column("last_accessed", Kind::Time),
        ],
    },
    Table {
        name: "records",
        columns: &[
            column("owner", Kind::Id),
            column("kind", Kind::Text),
            column("id", Kind::Text),
            column("sequence", Kind::Number),
            column("version", Kind::Number),
            column("tag", Kind::Bytes),
            column("size", Kind::Number),
            column("iv", Kind::Bytes),
            column("checksum", Kind::Bytes),
            column("client_time", Kind::Time),
            column("metadata", Kind::Json),
            column("created_at", Kind::Time),
            column("updated_at", Kind::Time),
            column("expires_at", Kind::Time),
            column("deleted_at", Kind::Time),
        ],
    },
    Table {
        name: "record_blobs",
        columns: &[
            column("owner", Kind::Id),
            column("sequence", Kind::Number),
            // Encrypted by its owner.
            column("ciphertext", Kind::Bytes),
        ],
    },
    Table {
        name: "record_shares",
        columns: &[
            column("share", Kind::Number),
            column("records", Kind::Number),
            column("bytes", Kind::Number),
        ],
    },
    Table {
        name: "audit_events",
        columns: &[
            column("id", Kind::Id),
            column("at", Kind::Time),
            column("actor", Kind::Text),
            column("action", Kind::Text),
            column("subject", Kind::Text),
            column("outcome", Kind::Text),
            column("detail", Kind::Json),
        ],
    },
];
