//! The rows of an archive: whether each fits its table. It changes nothing, and needs no database.

use crate::archive::Manifest;
use crate::storage::migrations;
use crate::storage::tables::{OLDEST_ARCHIVE, TABLES, Table};

/// What is wrong with the rows of an archive. What that means depends on the schema, which the end of
/// the archive tells.
#[derive(Default)]
pub(super) struct Rows {
    /// In every schema that is known here.
    misfit: Option<String>,
    /// In the newest.
    lacking: Option<String>,
}

impl Rows {
    pub(super) fn check(&mut self, name: &str, lines: &[u8]) {
        let Some(table) = Table::named(name) else {
            self.misfit.get_or_insert(format!("there is no table {name:?}"));
            return;
        };
        let Ok(lines) = std::str::from_utf8(lines) else {
            self.misfit.get_or_insert(format!("rows of {name} are no text"));
            return;
        };
        for line in lines.lines() {
            if let Err(why) = table.check(line, false) {
                let told = |why| format!("a row of {name} is none: {why}");
                match table.check(line, true) {
                    Ok(()) => self.lacking.get_or_insert_with(|| told(why)),
                    Err(why) => self.misfit.get_or_insert_with(|| told(why)),
                };
            }
        }
    }

    /// What is wrong, now that the schema is known.
    pub(super) fn wrong(self, manifest: &Manifest) -> Option<String> {
        let schema = manifest.origin.schema.as_str();
        if schema == migrations::newest() {
            let named = |table: &&Table| manifest.tables.iter().all(|it| it.name != table.name);
            let absent = TABLES.iter().find(named);
            let absent = absent.map(|table| format!("it lacks the table {}", table.name));
            self.misfit.or(self.lacking).or(absent)
        } else if (OLDEST_ARCHIVE..migrations::newest()).contains(&schema) {
            self.misfit
        } else {
            None
        }
    }
}
