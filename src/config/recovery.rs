//! `[recovery]`: what happens when the database went back in time.

use std::path::{Path, PathBuf};

use super::reader::{Given, Reader, Show};

/// Whether a fail-over of PostgreSQL can lose a commit that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    Asynchronous,
    Synchronous,
}

/// What an instance does when it notices that the database lost commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCut {
    /// It recovers the database.
    Recover,
    /// It waits until an operator has.
    Halt,
}

/// `[recovery]`.
#[derive(Debug, Clone)]
pub struct Recovery {
    pub replication: Replication,
    pub on_cut: OnCut,
    /// Where the instance remembers what the database has acknowledged.
    pub mark_file: PathBuf,
}

impl Recovery {
    pub(super) fn read(reader: &mut Reader, data_dir: &Path) -> Self {
        let replication = [
            ("asynchronous", Replication::Asynchronous),
            ("synchronous", Replication::Synchronous),
        ];
        let on_cut = [("recover", OnCut::Recover), ("halt", OnCut::Halt)];
        Self {
            replication: one_of(reader, "recovery.replication", replication),
            on_cut: one_of(reader, "recovery.on_cut", on_cut),
            mark_file: reader.path("recovery.mark_file", data_dir.join("mark")),
        }
    }
}

/// One of two words; the first is the default.
fn one_of<T: Copy + PartialEq>(reader: &mut Reader, key: &str, words: [(&'static str, T); 2]) -> T {
    let [(first, default), (second, _)] = words;
    let parse = |given: &Given| {
        let found = words.iter().find(|(word, _)| given.text() == Some(word));
        found.map(|(_, value)| *value).ok_or_else(|| format!("must be {first} or {second}"))
    };
    let word = |value: &T| if *value == default { first.into() } else { second.into() };
    reader.value(key, Show::Plain, default, parse, word)
}
