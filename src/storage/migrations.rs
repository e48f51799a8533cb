//! Migrations, and what reverting them deletes.

/// One migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// The name of its folder, such as `2026-11-20-000001_sessions`.
    pub name: String,
    /// Whether the database has it.
    pub applied: bool,
    /// Whether this binary has it; a migration of a newer binary is applied but not known.
    pub known: bool,
}

/// A migration that the database has and this binary has not.
#[must_use]
pub fn unknown(all: &[MigrationStatus]) -> Option<&str> {
    all.iter().find(|migration| !migration.known).map(|migration| migration.name.as_str())
}

/// The newest migration of this binary, of either database.
#[must_use]
pub const fn newest() -> &'static str {
    let [.., (newest, _)] = LOSSES;
    newest
}

/// The data that reverting each migration deletes, where it deletes any.
const LOSSES: [(&str, Option<&str>); 21] = [
    (
        "2026-11-20-000001_sessions",
        Some("every session and its nonces, which can then be accepted again"),
    ),
    (
        "2026-11-20-000002_dids",
        Some(
            "every DID, revocations included, and the nonces of signers, which can then be \
             accepted again",
        ),
    ),
    (
        "2026-11-20-000003_access",
        Some("every API token, the audit log, and what is known of sealing keys"),
    ),
    ("2026-11-20-000004_leases", Some("when jobs were last done")),
    ("2026-11-20-000005_did_documents", Some("what was read of DIDs that are not revoked")),
    ("2026-11-20-000006_nonces_of_sessions", None),
    ("2026-11-20-000007_signer_nonces", None),
    ("2026-11-20-000008_session_activity", None),
    (
        "2026-11-29-000080_history",
        Some(
            "the record of how far nonces were purged: those that were purged while a clock was \
             ahead can be accepted again",
        ),
    ),
    (
        "2026-11-30-000090_generation",
        Some(
            "when the database was last recovered: what was accepted in the past that it lost can \
             be accepted again",
        ),
    ),
    (
        "2026-11-30-000100_instances",
        Some(
            "what shows that the database went back in time: run `onceguard recover \
             --nothing-lost` after the migration was applied again",
        ),
    ),
    ("2026-11-30-000110_transfers", Some("the record of where the database was moved from")),
    ("2026-11-30-000120_short_nonces", None),
    ("2026-11-30-000130_records", Some("every sealed record")),
    (
        "2026-11-30-000140_events",
        Some("the chain of the log and its signed heads, and how its events belong to calls"),
    ),
    (
        "2026-11-30-000147_publications",
        Some(
            "which calls published events, so that one that is repeated publishes them again; and the \
             scopes `events` and `audit` of tokens",
        ),
    ),
    ("2026-11-30-000150_token_namespaces", Some("every token that is bound to a namespace")),
    (
        "2026-12-01-000160_webhooks",
        Some("every webhook, what it was still to be sent, and the scope `webhooks` of tokens"),
    ),
    ("2026-12-01-000170_search", None),
    (
        "2026-12-01-000180_webhook_names",
        Some("which webhooks are of the configuration: the next start makes them once more"),
    ),
    ("2026-12-01-000190_event_retention", None),
];

/// What is deleted when the migration of this name is reverted; `None` when nothing is.
#[must_use]
pub fn lost_by_reverting(name: &str) -> Option<&'static str> {
    match LOSSES.iter().find(|(known, _)| *known == name) {
        Some((_, lost)) => *lost,
        None => Some("everything in the tables that it made"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_says_what_reverting_it_deletes() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite");
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, LOSSES.map(|(name, _)| name.to_owned()));
    }
}
