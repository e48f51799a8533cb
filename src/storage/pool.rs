//! How the connections to a database are used.

/// The general pool, for `doctor`, `/readyz` and the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStatus {
    pub max: u32,
    pub open: u32,
    pub in_use: u32,
    /// Why the last connection could not be opened, when that will not pass by itself.
    pub refusal: Option<&'static str>,
}
