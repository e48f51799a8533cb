//! What is known of a migration, whichever database it is for.

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
