//! `make bench-scale`: claims with more and more live nonces, during a purge, and during a backup; the size of a
//! nonce on disk, and of a cached DID in memory.

use std::fmt::Write as _;
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use onceguard::domain::KeyType;
use onceguard::resolvers::did_key;
use onceguard::signatures::SigningKey;

use crate::Result;
use crate::bench::{Bench, Only};
use crate::course::quantile;
use crate::figures::Spread;
use crate::load::{Load, Pace, Running, Step};
use crate::onceguard::{Home, On, Service};
use crate::preload::{Data, Kind};
use crate::report::table;
use crate::targets::{Target, at_least, at_most};
use crate::wire::{self, Client, HttpAnswer, HttpClient, Reply};
use crate::{machine, report};

const CONNECTIONS: usize = 64;
const DATABASES: [(On, &str); 2] = [(On::Postgres, "PostgreSQL"), (On::Sqlite, "SQLite")];
/// Claims a second during a purge, in the rows with a fixed rate.
const STEADY: f64 = 2_000.0;
/// Live nonces beside those that are purged.
const BESIDE_PURGE: usize = 1_000_000;
const CACHED_DIDS: usize = 100_000;

/// What bounds the rows.
mod bounds {
    pub const MANY: &str = "each nonce lies on another page, which the disk reads and writes";
    pub const BACKUP: &str = "the processor, which the backup compresses on";
    pub const PURGE: &str = "the processor, and whole pages in PostgreSQL's WAL";
}

#[derive(Args)]
pub struct Arguments {
    /// How often each load is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each load is measured, after a second of warm-up
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Live nonces, from few to many
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000,30000000")]
    live: Vec<usize>,
    /// Expired nonces to purge
    #[arg(long, default_value_t = 1_000_000)]
    expired: usize,
    #[command(flatten)]
    only: Only,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let bench = Bench::new(arguments.seconds)?;
    let mut text = String::from("# onceguard as the work grows\n\n");
    text.push_str(&machine::description(&bench)?);
    let mut targets = Vec::new();
    let only = &arguments.only;

    let mut cells = Vec::new();
    for (on, name) in DATABASES {
        if !only.wants(&format!("live/{}", name.to_lowercase())) {
            continue;
        }
        let levels = levels(&bench, on, arguments)?;
        let rates: Vec<_> = levels.iter().map(|level| level.rate.median).collect();
        cells.extend(levels.iter().map(|level| level.cells(name)));
        if let [fewest, .., most] = rates[..] {
            let goal = if on == On::Postgres { 0.8 } else { 0.75 };
            let what = format!("{name}: claims a second, most live nonces against fewest");
            targets.push(
                at_least(what, 0.6, goal)
                    .is(Spread::of(std::iter::once(most / fewest)), bounds::MANY),
            );
        }
    }
    let head =
        ["database", "live nonces", "claims/s", "p50 ms", "p99 ms", "bytes, table", "bytes, index"];
    if !cells.is_empty() {
        writeln!(
            text,
            "\n## Claims in random ones of all live sessions, {CONNECTIONS} connections\n"
        )?;
        text.push_str(&table(head, &cells));
    }

    let mut cells = Vec::new();
    for (on, name) in DATABASES {
        for (kind, kind_id) in [(Kind::Ended, "sessions"), (Kind::ExpiredOfSigners, "signers")] {
            for (pace, pace_id) in [(Pace::Open(vec![STEADILY]), "steady"), (Pace::Closed, "most")]
            {
                let id = format!("purge/{}/{kind_id}/{pace_id}", name.to_lowercase());
                if !only.wants(&id) {
                    continue;
                }
                let purge = purge(&bench, on, kind, &pace, arguments.expired)?;
                cells.push(purge.cells(name, kind, &pace));
                targets.push(purge.target(name, kind, &pace));
            }
        }
    }
    let head = ["database", "purged", "claims", "took s", "p99 ms", "p99 ms without"];
    if !cells.is_empty() {
        writeln!(text, "\n## Claims while {} expired nonces are purged\n", arguments.expired)?;
        text.push_str(&table(head, &cells));
    }

    let mut cells = Vec::new();
    for (on, name) in DATABASES {
        if !only.wants(&format!("backup/{}", name.to_lowercase())) {
            continue;
        }
        let Beside { took, with, without } = backup(&bench, on)?;
        cells.push([
            name.to_owned(),
            format!("{:.1}", took.as_secs_f64()),
            format!("{with:.2}"),
            format!("{without:.2}"),
        ]);
        let what = format!("{name}: p99 during a backup, 2000 claims a second");
        targets.push(
            at_most(what, 1.5, 1.2, "")
                .is(Spread::of(std::iter::once(with / without)), bounds::BACKUP),
        );
    }
    if !cells.is_empty() {
        writeln!(text, "\n## 2000 claims a second while {BESIDE_PURGE} nonces are backed up\n")?;
        text.push_str(&table(["database", "took s", "p99 ms", "p99 ms without"], &cells));
    }

    if only.wants("dids") {
        let [empty, full] = did_cache(&bench)?;
        writeln!(
            text,
            "\n## The cache of DIDs\n\nResident memory with {CACHED_DIDS} DIDs cached: {full:.0} \
             MiB; with none: {empty:.0} MiB; {:.0} bytes a DID.",
            (full - empty) * 1024.0 * 1024.0 / CACHED_DIDS as f64
        )?;
    }
    writeln!(text, "\n## Targets\n")?;
    text.push_str(&report::judged(&targets));
    println!("\n{text}");
    let file = bench.output.join("scale.md");
    fs::write(&file, text)?;
    println!("\nwritten: {}", file.display());
    Ok(())
}

/// The measurements with this many live nonces.
struct Level {
    live: usize,
    rate: Spread,
    p50: Spread,
    p99: Spread,
    /// Bytes of table and indexes, per nonce.
    bytes: [f64; 2],
}

impl Level {
    fn cells(&self, database: &str) -> [String; 7] {
        [
            database.to_owned(),
            self.live.to_string(),
            format!("{:.0}", self.rate.median),
            format!("{:.2}", self.p50.median),
            format!("{:.2}", self.p99.median),
            format!("{:.0}", self.bytes[0]),
            format!("{:.0}", self.bytes[1]),
        ]
    }
}

fn levels(bench: &Bench, on: On, arguments: &Arguments) -> Result<Vec<Level>> {
    let home = Home::new(bench, on)?;
    home.start()?.stop()?;
    let (mut ids, mut levels, mut there) = (Vec::new(), Vec::new(), 0);
    for &live in &arguments.live {
        let mut data = Data::of(&home)?;
        ids.extend(data.add(Kind::Live, live.saturating_sub(there))?);
        there = live;
        let bytes = data.bytes_per_nonce(live)?;
        data.settle()?;
        let service = home.start()?;
        let sessions: Arc<[String]> = ids.as_slice().into();
        let request = wire::single_claim();
        let client = || HttpClient::boxed(&request, &sessions, 201, 0);
        let measure = |_| service.subject().measure(bench, CONNECTIONS, 1, &client);
        let samples: Result<Vec<_>> = (0..arguments.rounds).map(measure).collect();
        let samples = samples?;
        let spread = |value: fn(&crate::bench::Sample) -> f64| {
            Spread::of(samples.iter().map(value)).ok_or("no rounds")
        };
        let (rate, p50) = (spread(|sample| sample.per_second)?, spread(|sample| sample.p50)?);
        let level = Level { live, rate, p50, p99: spread(|sample| sample.p99)?, bytes };
        println!(
            "{on:?}, {live} live nonces: {:.0}/s, p99 {:.2} ms",
            rate.median, level.p99.median
        );
        levels.push(level);
        service.stop()?;
    }
    Ok(levels)
}

const STEADILY: Step = Step { from: Duration::ZERO, per_second: STEADY };

/// How long claims took while a purge ran, and without one.
struct Purge {
    took: Duration,
    with: f64,
    without: f64,
}

impl Purge {
    fn cells(&self, database: &str, kind: Kind, pace: &Pace) -> [String; 6] {
        [
            database.to_owned(),
            purged(kind).to_owned(),
            claims(pace).to_owned(),
            format!("{:.1}", self.took.as_secs_f64()),
            format!("{:.2}", self.with),
            format!("{:.2}", self.without),
        ]
    }

    fn target(&self, database: &str, kind: Kind, pace: &Pace) -> Target {
        let what = format!("{database}: p99 during a purge of {}, {}", purged(kind), claims(pace));
        at_most(what, 1.5, 1.2, "")
            .is(Spread::of(std::iter::once(self.with / self.without)), bounds::PURGE)
    }
}

const fn purged(kind: Kind) -> &'static str {
    match kind {
        Kind::ExpiredOfSigners => "signers' nonces",
        Kind::Live | Kind::Ended => "ended sessions and their nonces",
    }
}

const fn claims(pace: &Pace) -> &'static str {
    match pace {
        Pace::Closed => "as many as can be",
        Pace::Open(_) => "2000 a second",
    }
}

fn purge(bench: &Bench, on: On, kind: Kind, pace: &Pace, expired: usize) -> Result<Purge> {
    let home = Home::new(bench, on)?.set("ONCEGUARD_JOBS__PURGE_INTERVAL_SECONDS", "1");
    home.start()?.stop()?;
    let mut data = Data::of(&home)?;
    let sessions: Arc<[String]> = data.add(Kind::Live, BESIDE_PURGE)?.into();
    data.add(kind, expired)?;
    data.settle()?;
    let service = home.start()?;
    let started = Instant::now();
    let all_gone = || Ok(service.purged(kind.rows())? >= expired);
    let with = p99(&service, &sessions, pace, &mut || all_gone())?;
    let took = started.elapsed();
    // The same again, with nothing left to purge.
    let started = Instant::now();
    let without =
        p99(&service, &sessions, pace, &mut || Ok(all_gone()? && started.elapsed() >= took))?;
    println!("{on:?}, {kind:?}, {}: {with:.2} ms, without {without:.2} ms", claims(pace));
    Ok(Purge { took, with, without })
}

/// How long claims took beside something else, and without it.
struct Beside {
    took: Duration,
    with: f64,
    without: f64,
}

fn backup(bench: &Bench, on: On) -> Result<Beside> {
    let home = Home::new(bench, on)?;
    home.start()?.stop()?;
    let mut data = Data::of(&home)?;
    let sessions: Arc<[String]> = data.add(Kind::Live, BESIDE_PURGE)?.into();
    data.settle()?;
    let service = home.start()?;
    let pace = Pace::Open(vec![STEADILY]);
    let file = home.folder.path().join("backup.tar.zst");
    let mut command = home.command();
    command.args(["backup", "--output"]).arg(&file);
    let started = Instant::now();
    let mut running = command.stdout(Stdio::null()).spawn()?;
    let mut ended = None;
    let with = p99(&service, &sessions, &pace, &mut || {
        ended = running.try_wait()?;
        Ok(ended.is_some())
    })?;
    let took = started.elapsed();
    if !ended.is_some_and(|status| status.success()) {
        return Err("the backup failed".into());
    }
    // The same again, without one.
    let started = Instant::now();
    let without = p99(&service, &sessions, &pace, &mut || Ok(started.elapsed() >= took))?;
    println!(
        "{on:?}, during a backup of {:.1} s: {with:.2} ms, without {without:.2} ms",
        took.as_secs_f64()
    );
    Ok(Beside { took, with, without })
}

/// The p99 of claims until something is done, in milliseconds.
fn p99(
    service: &Service<'_>,
    sessions: &Arc<[String]>,
    pace: &Pace,
    done: &mut dyn FnMut() -> Result<bool>,
) -> Result<f64> {
    let request = wire::single_claim();
    let client = || HttpClient::boxed(&request, sessions, 201, 0);
    let load = Load {
        address: service.api,
        connections: CONNECTIONS,
        pace: pace.clone(),
        client: &client,
    };
    let mut running = Running::start(&load)?;
    running.measure();
    while !done()? {
        std::thread::sleep(Duration::from_millis(250));
    }
    let tally = running.finish()?;
    Ok(match pace {
        Pace::Closed => tally.latencies.value_at_quantile(0.99) as f64 / 1e6,
        Pace::Open(_) => quantile(tally.events.iter(), 0.99),
    })
}

/// Resident memory before any DID was read, and with the cache full, in MiB.
fn did_cache(bench: &Bench) -> Result<[f64; 2]> {
    let did = |_| -> Result<String> {
        let key =
            SigningKey::from_bytes(KeyType::Ed25519, &std::array::from_fn(|_| fastrand::u8(..)))?;
        Ok(did_key::encode(key.public_key())?.to_string())
    };
    let dids: Result<Vec<_>> = (0..CACHED_DIDS).map(did).collect();
    let (dids, next) = (Arc::<[String]>::from(dids?), Arc::new(AtomicUsize::new(0)));
    let home = Home::new(bench, On::Sqlite)?;
    let service = home.start()?;
    let client = || DidReads::boxed(&dids, &next);
    let load = Load {
        address: service.api,
        connections: CONNECTIONS,
        pace: Pace::Closed,
        client: &client,
    };
    let empty = service.memory();
    let running = Running::start(&load)?;
    while next.load(Ordering::Relaxed) < dids.len() {
        std::thread::sleep(Duration::from_millis(250));
    }
    running.finish()?;
    Ok([empty, service.memory()])
}

/// Reads each DID once, and then from the first one on again.
struct DidReads {
    dids: Arc<[String]>,
    next: Arc<AtomicUsize>,
    request: Vec<u8>,
}

impl DidReads {
    fn boxed(dids: &Arc<[String]>, next: &Arc<AtomicUsize>) -> Box<dyn Client> {
        Box::new(Self { dids: Arc::clone(dids), next: Arc::clone(next), request: Vec::new() })
    }
}

impl Client for DidReads {
    fn next(&mut self) {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.dids.len();
        let path = format!("/v1/dids/{}", self.dids[number]);
        self.request = wire::http("GET", &path, "").into_bytes();
    }

    fn request(&self) -> &[u8] {
        &self.request
    }

    fn answer(&mut self, input: &[u8]) -> Result<Option<Reply>> {
        let Some(answer) = HttpAnswer::read(input)? else { return Ok(None) };
        answer.must_be(200)?;
        Ok(Some(Reply::Done))
    }
}
