//! The tables as archives know them: the same for both databases, which store the same rows in
//! different types. Each database writes a row of such a table as one line of JSON.

use std::net::IpAddr;

use serde_json::{Map, Value};

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

/// The oldest schema whose archives can be restored. Tables and columns that came later are empty in
/// them, and get their defaults. A migration that asks for more than that moves this on.
pub const OLDEST_ARCHIVE: &str = "2026-11-30-000140_events";

impl Table {
    /// The table of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.name == name)
    }

    /// Whether a line is a row of this table. One of an older schema may lack columns.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, line: &str, may_lack: bool) -> Result<(), String> {
        let row: Map<String, Value> =
            serde_json::from_str(line).map_err(|_| "it is no object of JSON".to_owned())?;
        for column in self.columns {
            match row.get(column.name) {
                None if may_lack => {}
                None => return Err(format!("it has no {}", column.name)),
                Some(value) if column.kind.fits(value) => {}
                Some(_) => return Err(format!("its {} is of another kind", column.name)),
            }
        }
        let known = |name: &&String| self.columns.iter().any(|column| column.name == **name);
        match row.keys().find(|name| !known(name)) {
            Some(other) => Err(format!("there is no column {other:?}")),
            None => Ok(()),
        }
    }
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        let hex = |of: usize| {
            value.as_str().is_some_and(|text| {
                text.len() % of == 0
                    && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            })
        };
        value.is_null()
            || match self {
                Self::Text => value.is_string(),
                Self::Bytes => hex(2),
                Self::Id => hex(32) && value.as_str().is_some_and(|text| text.len() == 32),
                Self::Ids => hex(32),
                Self::Number | Self::Time => value.is_i64(),
                Self::Bool => value.is_boolean(),
                Self::Json => true,
                Self::Words => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
                Self::Address => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
            }
    }
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind }
}

/// A table that is in no archive: it says what became of this very database, and not of its data.
pub const NOT_ARCHIVED: &str = "transfers";

/// How many there are. Where a type needs the number, `TABLES.len()` is a cycle for rustc 1.95 when it
/// optimises.
pub const TABLE_COUNT: usize = 20;

/// Every table with data, those first that others refer to. The order is that of archives.
pub const TABLES: [Table; TABLE_COUNT] = [
    // Its other columns say that it has one row, and (in PostgreSQL) which server it is on.
    Table {
        name: "history",
        columns: &[
            column("purged_until", Kind::Time),
            column("generation", Kind::Id),
            column("ancestors", Kind::Ids),
            column("recovered_at", Kind::Time),
            column("not_before", Kind::Time),
            column("ahead_until", Kind::Time),
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
            column("issued_until", Kind::Time),
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
            column("namespace", Kind::Text),
            column("max_ttl_seconds", Kind::Number),
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
        name: "events",
        columns: &[
            column("id", Kind::Id),
            column("sequence", Kind::Number),
            column("type", Kind::Text),
            column("source", Kind::Text),
            column("subject", Kind::Text),
            column("actor", Kind::Text),
            column("outcome", Kind::Text),
            column("request_id", Kind::Text),
            column("at", Kind::Time),
            column("data", Kind::Json),
            column("salt", Kind::Bytes),
            column("commitment", Kind::Bytes),
            column("hash", Kind::Bytes),
        ],
    },
    Table {
        name: "event_heads",
        columns: &[
            column("sequence", Kind::Number),
            column("hash", Kind::Bytes),
            column("signed_at", Kind::Time),
            column("note", Kind::Text),
        ],
    },
    Table {
        name: "publications",
        columns: &[
            column("digest", Kind::Bytes),
            column("content", Kind::Bytes),
            column("events", Kind::Ids),
            column("at", Kind::Time),
        ],
    },
    // Its other column says that it has one row.
    Table {
        name: "event_chain",
        columns: &[
            column("origin", Kind::Id),
            column("sequence", Kind::Number),
            column("hash", Kind::Bytes),
            column("linked_at", Kind::Time),
            column("cut_sequence", Kind::Number),
            column("cut_hash", Kind::Bytes),
        ],
    },
    Table {
        name: "webhooks",
        columns: &[
            column("id", Kind::Id),
            column("url", Kind::Text),
            column("types", Kind::Words),
            column("signature", Kind::Text),
            // Sealed.
            column("secret", Kind::Bytes),
            column("key_id", Kind::Text),
            column("state", Kind::Text),
            column("reason", Kind::Text),
            column("last_sequence", Kind::Number),
            column("created_at", Kind::Time),
            column("name", Kind::Text),
        ],
    },
    Table {
        name: "webhook_deliveries",
        columns: &[
            column("webhook", Kind::Id),
            column("sequence", Kind::Number),
            column("event", Kind::Id),
            column("state", Kind::Text),
            column("attempts", Kind::Number),
            column("next_at", Kind::Time),
            column("created_at", Kind::Time),
            column("attempted_at", Kind::Time),
            column("status", Kind::Number),
            column("error", Kind::Text),
        ],
    },
];

#[cfg(test)]
mod tests;
