//! Standard output (results) and standard error (everything else). The only place that prints.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use super::Failure;
use crate::telemetry;

/// Writes one line of the result.
pub(super) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    writeln!(io::stdout(), "{}", text.as_ref())?;
    Ok(())
}

/// Writes the result for a machine.
pub(super) fn json(value: &Value) -> Result<(), Failure> {
    line(format!("{value:#}"))
}

/// Writes a note for the person at the terminal. If it cannot be written, that is ignored.
pub(super) fn note(text: impl AsRef<str>) {
    telemetry::tell(&format!("{}\n", text.as_ref()));
}

/// Writes rows below their headings, in aligned columns.
pub(super) fn table<const N: usize>(
    headings: [&str; N],
    rows: &[[String; N]],
) -> Result<(), Failure> {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&headings.map(str::to_owned)).chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Asks before an act that cannot be undone. `yes` means that `--yes` was passed.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let advice = "nothing was done; pass --yes to confirm";
        return Err(Failure::Refused(format!("{question}\n{advice}")));
    }
    telemetry::tell(&format!("{question}\nType yes to continue: "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(Failure::Refused("nothing was done".to_owned()))
    }
}
