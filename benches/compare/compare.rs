//! `make bench`: every row once in each round, in turn, so that other work on the machine affects
//! all rows alike.

use std::fs;

use clap::Args;

use crate::Result;
use crate::bench::{Bench, Only};
use crate::results::Results;
use crate::{figures, plot, report, rows};

#[derive(Args)]
pub struct Arguments {
    /// How often each row is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each load is measured in a round, after a second of warm-up
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[command(flatten)]
    only: Only,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let bench = Bench::new(arguments.seconds)?;
    let rows: Vec<_> =
        rows::all().into_iter().filter(|row| arguments.only.wants(&row.id)).collect();
    let mut results = Results::default();
    for round in 1..=arguments.rounds {
        for row in &rows {
            let sample =
                (row.run)(&bench, row.connections).map_err(|e| format!("{}: {e}", row.id))?;
            println!(
                "round {round}  {:<40} {:>9.0}/s  p50 {:>7.2} ms  p99 {:>7.2} ms",
                row.id, sample.per_second, sample.p50, sample.p99
            );
            results.samples.entry(row.id.clone()).or_default().push(sample);
        }
        for group in &figures::GROUPS {
            if group.figures.iter().any(|figure| arguments.only.wants(figure.id)) {
                for (figure, value) in group.figures.iter().zip((group.run)(&bench)?) {
                    println!("round {round}  {:<40} {value:>9.1} {}", figure.id, figure.unit);
                    results.figures.entry(figure.id).or_default().push(value);
                }
            }
        }
    }
    let report = report::of(&bench, arguments.rounds, &rows, &results)?;
    println!("\n{report}");
    let (text, picture) = (bench.output.join("report.md"), bench.output.join("report.svg"));
    fs::write(&text, report)?;
    plot::claims(&picture, &rows, &results)?;
    println!("\nwritten: {} and {}", text.display(), picture.display());
    Ok(())
}
