//! `make bench-overload`: the service under four times the load that it can serve. Requests come by
//! the clock, and do not wait for answers: half the capacity, then four times the capacity, then
//! half again. Each request has a batch of claims, so that the queue fills up before HTTP takes all
//! processors. Millions of nonces are there already, so that the table is about as large at the end
//! as at the beginning.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use crate::Result;
use crate::bench::Bench;
use crate::course::{Course, Probe, quantile};
use crate::figures::Spread;
use crate::load::{Load, Pace, Running, Step};
use crate::onceguard::{Home, On, Service};
use crate::preload::{Data, Kind};
use crate::targets::{Target, at_least, at_most};
use crate::wire::{self, HttpClient, Reply};
use crate::{machine, plot, report};

/// Claims in one request.
const BATCH: usize = 100;
/// Connections of the closed loop that finds the capacity. They do not fill the queue.
const CLOSED: usize = 32;
/// Connections of the open loop: enough that one is always free.
const OPEN: usize = 512;
/// Live nonces before anything is measured.
const LIVE: usize = 5_000_000;
const OVERLOAD: f64 = 4.0;
const CALM: f64 = 0.5;
/// How often the operations listener is asked.
const PROBED: Duration = Duration::from_millis(50);

#[derive(Args)]
pub struct Arguments {
    /// How long the overload lasts; half as long is calm before it, and after it
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let bench = Bench::new(arguments.seconds)?;
    let mut text = String::from("# onceguard under four times its capacity\n\n");
    text.push_str(&machine::description(&bench)?);
    for (on, name) in [(On::Sqlite, "SQLite"), (On::Postgres, "PostgreSQL")] {
        let home = Home::new(&bench, on)?;
        home.start()?.stop()?;
        let mut data = Data::of(&home)?;
        let sessions = data.add(Kind::Live, LIVE)?.into();
        data.settle()?;
        let course = drive(&bench, &home.start()?, &sessions)?;
        writeln!(text, "\n## On {name}\n")?;
        writeln!(text, "{}\n", summary(&course))?;
        text.push_str(&report::judged(&targets(&course)));
        let picture = bench.output.join(format!("overload-{}.svg", name.to_lowercase()));
        plot::course(&picture, name, &course)?;
    }
    println!("{text}");
    let file = bench.output.join("overload.md");
    fs::write(&file, text)?;
    println!("\nwritten: {}, and a picture of each", file.display());
    Ok(())
}

fn drive(bench: &Bench, service: &Service<'_>, sessions: &Arc<[String]>) -> Result<Course> {
    let request = wire::batch_of_claims(BATCH);
    let client = || HttpClient::boxed(&request, sessions, 200, BATCH);
    let closed = || -> Result<f64> {
        let sample = service.subject().measure(bench, CLOSED, BATCH, &client)?;
        Ok(sample.per_second / BATCH as f64)
    };
    let before = closed()?;
    let calm = bench.measured / 2;
    let overload = [calm, calm + bench.measured];
    let step = |from, part| Step { from, per_second: before * part };
    let steps =
        vec![step(Duration::ZERO, CALM), step(overload[0], OVERLOAD), step(overload[1], CALM)];
    let load =
        Load { address: service.api, connections: OPEN, pace: Pace::Open(steps), client: &client };
    let mut running = Running::start(&load)?;
    running.measure();
    let probing = Probing::start(service.ops);
    std::thread::sleep(overload[1] + calm);
    let probes = probing.finish()?;
    let tally = running.finish()?;
    // The last requests get their answers before anything else is measured.
    std::thread::sleep(Duration::from_secs(1));
    Ok(Course { capacity: [before, closed()?], tally, probes, overload })
}

/// A thread that asks the operations listener again and again.
struct Probing {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Vec<Probe>>>,
}

impl Probing {
    fn start(address: SocketAddr) -> Self {
        let (started, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut probes = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                for path in ["/livez", "/metrics"] {
                    let at = started.elapsed();
                    wire::call(address, &wire::http("GET", path, ""), 200)?;
                    probes.push(Probe { at, path, latency: started.elapsed() - at });
                }
                std::thread::sleep(PROBED);
            }
            Ok(probes)
        });
        Self { stop, thread }
    }

    fn finish(self) -> Result<Vec<Probe>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the probing thread panicked")?
    }
}

fn summary(course: &Course) -> String {
    let (done, refused) = (course.overloaded(Reply::Done), course.overloaded(Reply::Refused));
    let batch = BATCH as f64;
    format!(
        "Beside {LIVE} live nonces. Capacity {:.0} claims a second before and {:.0} after, in \
         requests of {BATCH}. Under {OVERLOAD} times as much as before: {:.0} accepted a second \
         (p50 {:.1} ms, p99 {:.1} ms); {} requests refused (p50 {:.2} ms, p99 {:.2} ms), each \
         with 503 overloaded and Retry-After; {} requests found no free connection for a \
         second and were not sent.",
        course.capacity[0] * batch,
        course.capacity[1] * batch,
        course.goodput() * batch,
        quantile(done.iter().copied(), 0.5),
        quantile(done.iter().copied(), 0.99),
        refused.len(),
        quantile(refused.iter().copied(), 0.5),
        quantile(refused.iter().copied(), 0.99),
        course.tally.unsent,
    )
}

/// What bounds all of them.
const SURPLUS: &str = "sending and refusing the surplus, on the same processors";

fn targets(course: &Course) -> [Target; 4] {
    let one = |value| Spread::of(std::iter::once(value));
    [
        at_least("accepted under overload, against the mean capacity", 0.9, 0.95)
            .is(one(course.goodput() / course.mean_capacity()), SURPLUS),
        at_most("slowest /livez meanwhile", 100.0, 100.0, " ms")
            .is(one(course.slowest("/livez")), SURPLUS),
        at_most("slowest /metrics meanwhile", 100.0, 100.0, " ms")
            .is(one(course.slowest("/metrics")), SURPLUS),
        at_most("back to normal after it", 2.0, 0.5, " s").is(one(course.recovery()), SURPLUS),
    ]
}
