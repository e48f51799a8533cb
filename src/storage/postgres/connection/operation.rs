//! What is done, and whether it may be done in a database that was cut.

/// What is done, for logs, and whether it may be done in a database that was cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) even_if_cut: bool,
}

impl Operation {
    /// Tells the state of a database that was cut, or revokes in it, with what that needs to know of
    /// who asks.
    pub(crate) const fn even_if_cut(name: &'static str) -> Self {
        Self { name, even_if_cut: true }
    }
}

impl From<&'static str> for Operation {
    fn from(name: &'static str) -> Self {
        Self { name, even_if_cut: false }
    }
}
