//! Fingerprints of tables: equal for the same rows in any order, whichever database holds them.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use super::DumpChunk;
use super::tables::{Kind, TABLE_COUNT, TABLES, Table};

/// What a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    pub rows: u64,
    /// The sum of the SHA-256 of every row, modulo 2^256. A sum, so that a row that is there twice
    /// counts twice.
    sum: [u8; 32],
}

/// What each table holds, in the order of [`TABLES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprints([Fingerprint; TABLE_COUNT]);

impl Fingerprint {
    /// In hexadecimal.
    #[must_use]
    pub fn sum(&self) -> String {
        base16ct::lower::encode_string(&self.sum)
    }

    fn add(&mut self, table: &Table, line: &str) {
        self.rows += 1;
        let hash = Sha256::digest(one_form(table, line).as_bytes());
        let mut carry = 0;
        for (byte, more) in self.sum.iter_mut().zip(hash).rev() {
            let sum = u16::from(*byte) + u16::from(more) + carry;
            let [high, low] = sum.to_be_bytes();
            (*byte, carry) = (low, u16::from(high));
        }
    }
}

impl Default for Fingerprints {
    /// Of empty tables.
    fn default() -> Self {
        Self([Fingerprint { rows: 0, sum: [0; 32] }; TABLE_COUNT])
    }
}

impl Fingerprints {
    /// Adds a row, as a line of JSON.
    pub(super) fn add(&mut self, table: &Table, line: &str) {
        let places = self.0.iter_mut().zip(&TABLES);
        if let Some((fingerprint, _)) = places.into_iter().find(|(_, known)| *known == table) {
            fingerprint.add(table, line);
        }
    }

    /// Adds the rows of a dump.
    pub fn add_chunk(&mut self, chunk: &DumpChunk) {
        let table = TABLES.iter().find(|table| table.name == chunk.table);
        let lines = std::str::from_utf8(&chunk.lines).unwrap_or_default();
        if let Some(table) = table {
            lines.lines().for_each(|line| self.add(table, line));
        }
    }

    /// Each table's name, and what it holds.
    pub fn tables(&self) -> impl Iterator<Item = (&'static str, Fingerprint)> {
        TABLES.iter().map(|table| table.name).zip(self.0)
    }

    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.iter().map(|fingerprint| fingerprint.rows).sum()
    }

    /// The first table that holds something else.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let pairs = self.tables().zip(other.tables());
        pairs.into_iter().find(|(one, other)| one != other).map(|((name, _), _)| name)
    }
}

/// A row in a form that does not depend on the database: its columns in their order, and JSON
/// without what jsonb does not keep.
fn one_form(table: &Table, line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let Ok(row) = serde_json::from_str::<Map<String, Value>>(line) else {
        // No row of a database is like that. It counts as it is.
        return line.to_owned();
    };
    for column in table.columns {
        match (column.kind, row.get(column.name)) {
            (_, None) => text.push('-'),
            (Kind::Json, Some(value)) => write_json(value, &mut text),
            // PostgreSQL writes addresses in its own way.
            (Kind::Address, Some(Value::String(address))) => {
                match address.parse::<std::net::IpAddr>() {
                    Ok(address) => push(&mut text, &address),
                    Err(_) => text.push_str(address),
                }
            }
            (_, Some(value)) => push(&mut text, value),
        }
        text.push('\n');
    }
    text
}

fn push(text: &mut String, value: &impl std::fmt::Display) {
    // Cannot fail: it is a string.
    let _ = write!(text, "{value}");
}

fn write_json(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (name, value) in members {
                push(text, &Value::String(name.clone()));
                text.push(':');
                write_json(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write_json(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Number(number) => write_number(number, text),
        Value::Null | Value::Bool(_) | Value::String(_) => push(text, value),
    }
}

/// jsonb has no exponents: `1e2` is `100` there.
fn write_number(number: &Number, text: &mut String) {
    match number.as_f64() {
        Some(value) => {
            let _ = write!(text, "{value:e}");
        }
        None => push(text, number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&str, &str)]) -> Fingerprints {
        let mut all = Fingerprints::default();
        for (name, line) in lines {
            all.add(TABLES.iter().find(|table| table.name == *name).unwrap(), line);
        }
        all
    }

    #[test]
    fn the_order_of_rows_does_not_count_and_everything_else_does() {
        let one = ("signers", r#"{"signer":"00","did":"did:a:b","live":1}"#);
        let two = ("signers", r#"{"signer":"01","did":"did:a:b","live":1}"#);
        assert_eq!(of(&[one, two]), of(&[two, one]));
        for other in [
            vec![],
            vec![one],
            vec![one, two, two],
            vec![one, ("signers", r#"{"signer":"01","did":"did:a:b","live":2}"#)],
            vec![one, ("signers", r#"{"signer":"01","did":null,"live":1}"#)],
            vec![one, ("signers", r#"{"signer":"01","live":1}"#)],
            vec![("signers", r#"{"signer":"00","did":"did:a:b\n1","live":1}"#), two],
        ] {
            assert_eq!(of(&[one, two]).difference(&of(&other)), Some("signers"), "{other:?}");
        }
        assert_ne!(of(&[one, one]), of(&[two, two]), "an exclusive or would be zero");
    }

    #[test]
    fn a_row_is_the_same_from_either_database() {
        let sqlite = r#"{"id":"00","data":{"b":1e2,"a":[1.50,{"é":null}]},"at":5}"#;
        let postgres = r#"{"id":"00","at":5,"data":{"a": [1.50, {"é": null}], "b": 100}}"#;
        assert_eq!(of(&[("events", sqlite)]), of(&[("events", postgres)]));
        let other = r#"{"id":"00","at":5,"data":{"a": [1.50, {"é": null}], "b": 101}}"#;
        assert_ne!(of(&[("events", sqlite)]), of(&[("events", other)]));
        let [one, two] = ["::102:304", "::1.2.3.4"]
            .map(|address| format!(r#"{{"id":"00","ip_address":"{address}"}}"#));
        assert_eq!(of(&[("sessions", &one)]), of(&[("sessions", &two)]));
    }

    #[test]
    fn the_sum_carries() {
        let mut full = Fingerprint { rows: 0, sum: [0xff; 32] };
        let line = r#"{"signer":"00","did":"did:a:b","live":1}"#;
        let signers = TABLES.iter().find(|table| table.name == "signers").unwrap();
        full.add(signers, line);
        let (_, fresh) = of(&[("signers", line)]).tables().find(|(n, _)| *n == "signers").unwrap();
        // All ones are minus one.
        full.add(signers, line);
        let mut twice = fresh;
        twice.add(signers, line);
        let mut minus_one = full.sum;
        for byte in minus_one.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        assert_eq!(minus_one, twice.sum);
    }
}
