//! The report: tables that read well in a terminal and as Markdown.

use std::fmt::Write as _;

use crate::Result;
use crate::bench::{Bench, Sample};
use crate::figures::{self, Spread};
use crate::machine;
use crate::results::Results;
use crate::rows::{Row, Section};
use crate::targets::{self, Target, short};

pub fn of(bench: &Bench, rounds: usize, rows: &[Row], results: &Results) -> Result<String> {
    let mut text = String::from("# onceguard beside others\n\n");
    text.push_str(&machine::description(bench)?);
    writeln!(
        text,
        "\n{rounds} rounds by turns, {} s each after 1 s of warm-up; medians, and the least and \
         most of all rounds. Load generator ({} thread), servers and databases share the machine. \
         CPU is of the server (and its database), for one operation.",
        bench.measured.as_secs(),
        crate::load::threads(),
    )?;
    for section in Section::ALL {
        let rows: Vec<_> = rows.iter().filter(|row| row.section == section).collect();
        if !rows.is_empty() {
            writeln!(text, "\n## {}\n", section.title())?;
            text.push_str(&loads(&rows, results));
        }
    }
    let figures = figures::GROUPS.iter().flat_map(|group| group.figures);
    let cells: Vec<_> = figures
        .filter_map(|figure| {
            let spread = results.figure(figure.id)?;
            Some([
                figure.what.to_owned(),
                figure.unit.to_owned(),
                short(spread.median),
                range(spread),
            ])
        })
        .collect();
    if !cells.is_empty() {
        writeln!(text, "\n## Verdicts in the process, memory, start\n")?;
        text.push_str(&table(["what", "unit", "median", "least – most"], &cells));
    }
    writeln!(text, "\n## Targets\n")?;
    text.push_str(&judged(&targets::compared(results)));
    writeln!(text, "\n`make bench-scale` and `make bench-overload` measure the others.")?;
    Ok(text)
}

fn loads(rows: &[&Row], results: &Results) -> String {
    let cells: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let value = |value: fn(&Sample) -> f64| results.of(&row.id, value);
            let cpu = |sample: &Sample| match (sample.server_cpu, sample.database_cpu) {
                (None, None) => f64::NAN,
                (server, database) => server.unwrap_or(0.0) + database.unwrap_or(0.0),
            };
            let shown = |spread: Option<Spread>, digits: usize| {
                spread.map_or_else(|| "–".to_owned(), |s| format!("{:.digits$}", s.median))
            };
            let rate = value(|sample| sample.per_second)?;
            Some([
                row.what.clone(),
                row.durability.to_owned(),
                row.connections.to_string(),
                format!("{:.0}", rate.median),
                range(rate),
                shown(value(|sample| sample.p50), 2),
                shown(value(|sample| sample.p99), 2),
                shown(results.of(&row.id, cpu), 1),
                shown(results.of(&row.id, |sample| 1e6 / cpu(sample)), 0),
                shown(value(|sample| sample.client_cpu.unwrap_or(f64::NAN)), 1),
                shown(value(|sample| sample.memory.unwrap_or(f64::NAN)), 0),
            ])
        })
        .collect();
    let head = [
        "what",
        "durability",
        "connections",
        "per s",
        "least – most",
        "p50 ms",
        "p99 ms",
        "CPU µs",
        "per s and core",
        "client µs",
        "MiB",
    ];
    table(head, &cells)
}

fn range(spread: Spread) -> String {
    format!("{} – {}", short(spread.least), short(spread.most))
}

pub fn judged(targets: &[Target]) -> String {
    let cells: Vec<_> = targets
        .iter()
        .map(|target| {
            let measured = |spread: Spread| {
                let median = format!("{}{}", short(spread.median), target.unit);
                let alone = spread.least.total_cmp(&spread.most).is_eq();
                if alone { median } else { format!("{median} ({})", range(spread)) }
            };
            [
                target.what.clone(),
                target.bound(target.must),
                target.bound(target.goal),
                target.measured.map_or_else(|| "–".to_owned(), measured),
                target.judgement().to_owned(),
                target.missed_for().to_owned(),
            ]
        })
        .collect();
    table(["what", "must", "goal", "measured", "", "what bounds it"], &cells)
}

/// A Markdown table with aligned columns. Numbers are right-aligned, except in the first column.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count(), 3]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let numeric: [bool; N] = std::array::from_fn(|column| {
        column > 0
            && rows
                .iter()
                .all(|row| row[column].starts_with(|c: char| c.is_ascii_digit() || c == '–'))
    });
    let line = |cells: [&str; N]| {
        let mut line = String::from("|");
        for (column, cell) in cells.into_iter().enumerate() {
            let width = widths[column];
            let _ = if numeric[column] {
                write!(line, " {cell:>width$} |")
            } else {
                write!(line, " {cell:<width$} |")
            };
        }
        line + "\n"
    };
    let mut text = line(head);
    text.push('|');
    for column in 0..N {
        let dashes = "-".repeat(widths[column] + 1);
        text.push_str(&dashes);
        text.push_str(if numeric[column] { ":|" } else { "-|" });
    }
    text.push('\n');
    for row in rows {
        text.push_str(&line(std::array::from_fn(|column| row[column].as_str())));
    }
    text
}
