//! pgbench, PostgreSQL's own load generator, without any HTTP: single-row INSERT … ON CONFLICT on the
//! founding schema, and scripts of other rows.

use std::fs;
use std::process::Command;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Result;
use crate::bench::{Bench, Sample};
use crate::load;
use crate::naive::FOUNDING_SCHEMA;
use crate::postgres::Database;

/// Names the program to start, when it is not in PATH.
const PROGRAM: &str = "BENCH_PGBENCH";

/// A nonce as long as in the other rows: 20 to 22 digits.
const SCRIPT: &str = r"
\set a random(1000000000000000000, 9000000000000000000)
\set b random(100, 999)
\set s random(10, 73)
INSERT INTO nonces (nonce, session_id, expires_at) VALUES (:a || '-' || :b,
    ('00000000-0000-4000-8000-0000000000' || :s)::uuid, now() + interval '1 hour')
ON CONFLICT DO NOTHING;
";

/// pgbench's time includes connecting, but its rate does not.
const CONNECTING: Duration = Duration::from_secs(2);
/// One in this many transactions is logged with its latency.
const SAMPLED: u64 = 10;

pub fn claims(bench: &Bench, connections: usize) -> Result<Sample> {
    let database = bench.postgres.database()?;
    database.run(FOUNDING_SCHEMA)?;
    run(bench, &database, SCRIPT, &[], connections)
}

/// Runs a script, with these variables.
pub fn run(
    bench: &Bench,
    database: &Database<'_>,
    script: &str,
    variables: &[(&str, &str)],
    connections: usize,
) -> Result<Sample> {
    let folder = bench.folder()?;
    fs::write(folder.path().join("script.sql"), script)?;
    let url = &database.url;
    let program = std::env::var(PROGRAM).unwrap_or_else(|_| "pgbench".to_owned());
    let mut command = Command::new(&program);
    command
        .current_dir(folder.path())
        .env("PGHOST", url.host_str().unwrap_or_default())
        .env("PGPORT", url.port().unwrap_or_default().to_string())
        .env("PGUSER", url.username())
        .env("PGPASSWORD", url.password().unwrap_or_default())
        .env("PGSSLMODE", "disable")
        .args(["--no-vacuum", "--protocol=prepared", "--file=script.sql"])
        .args(variables.iter().map(|(name, value)| format!("--define={name}={value}")))
        .arg(format!("--client={connections}"))
        .arg(format!("--jobs={}", load::threads()))
        .arg(format!("--time={}", (CONNECTING + bench.measured).as_secs()))
        .args(["--log", "--log-prefix=log"])
        .arg(format!("--sampling-rate={}", 1.0 / SAMPLED as f64))
        .arg(url.path().trim_start_matches('/'));
    let before = bench.postgres.cpu_time();
    // Ends by itself, and is in this process's group.
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let after = bench.postgres.cpu_time();
    let text = String::from_utf8(output.stdout)?;
    let told = |what: &str| {
        text.lines().find_map(|line| {
            line.strip_prefix(what)?.split_whitespace().next()?.parse::<f64>().ok()
        })
    };
    let done = told("tps = ").zip(told("number of transactions actually processed: "));
    let (per_second, transactions) = match done {
        Some(done) if output.status.success() => done,
        _ => return Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    };
    let latencies = logged(folder.path())?;
    let quantile = |part| latencies.value_at_quantile(part) as f64 / 1e3;
    let used = |time: Duration| time.as_secs_f64() * 1e6 / transactions;
    Ok(Sample {
        per_second,
        p50: quantile(0.5),
        p99: quantile(0.99),
        server_cpu: None,
        database_cpu: before.zip(after).map(|(before, after)| used(after.saturating_sub(before))),
        client_cpu: None,
        memory: None,
    })
}

/// The logged latencies, in microseconds.
fn logged(folder: &std::path::Path) -> Result<Histogram<u64>> {
    let mut latencies = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("log.") {
            for line in fs::read_to_string(entry.path())?.lines() {
                // Client, transaction, latency, …
                let latency = line.split(' ').nth(2).and_then(|text| text.parse().ok());
                latencies.saturating_record(latency.ok_or("pgbench wrote an unreadable log")?);
            }
        }
    }
    Ok(latencies)
}
