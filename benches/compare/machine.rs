//! The machine that a report was measured on.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::process::Command;
use std::time::Instant;

use crate::Result;
use crate::bench::Bench;
use crate::figures::Spread;
use crate::redis;

/// The number of timed syncs, which show the cost of durability on this machine.
const SYNCS: usize = 200;

pub fn description(bench: &Bench) -> Result<String> {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| writeln!(text, "- {name}: {value}");
    let cores = std::thread::available_parallelism()?;
    line("processor", &format!("{}, {cores} cores", processor().as_deref().unwrap_or("unknown")))?;
    if let Some(memory) = memory() {
        line("memory", &memory)?;
    }
    line("system", &output("uname", &["-srm"]))?;
    line("compiler", &output("rustc", &["--version"]))?;
    line("PostgreSQL", &bench.postgres.description()?)?;
    line("Redis", &redis::version().unwrap_or_else(|_| "none".into()))?;
    line("onceguard", &output("git", &["describe", "--always", "--dirty", "--tags"]))?;
    line(
        "fdatasync of 4 KiB, where the data is",
        &format!("{:.0} µs (median)", sync_micros(bench)?),
    )?;
    Ok(text)
}

fn processor() -> Option<String> {
    let linux = || {
        let info = fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = info.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let macos = || Some(output("sysctl", &["-n", "machdep.cpu.brand_string"]));
    linux().or_else(macos).filter(|name| !name.is_empty())
}

fn memory() -> Option<String> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kib: f64 = info.lines().next()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(format!("{:.0} GiB", kib / 1024.0 / 1024.0))
}

/// The output of a command. Empty if there is no such command.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

/// The median time of a small write that is forced to disk, again and again at the same place.
fn sync_micros(bench: &Bench) -> Result<f64> {
    let folder = bench.folder()?;
    let mut file = File::create(folder.path().join("sync"))?;
    let mut took = Vec::new();
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.rewind()?;
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        took.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Spread::of(took.into_iter()).map_or(0.0, |spread| spread.median))
}
