//! The servers under test: separate processes, observed through /proc. They end with this process,
//! even when it is killed by a signal.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Result;

/// How long a server may take to serve.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Every child that may still run.
static CHILDREN: Mutex<Vec<Arc<Mutex<Child>>>> = Mutex::new(Vec::new());

/// A server. Killed when dropped, because its data is thrown away.
pub struct Process {
    child: Arc<Mutex<Child>>,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("{program} cannot be started: {error}"))?;
        let child = Arc::new(Mutex::new(child));
        lock(&CHILDREN).push(Arc::clone(&child));
        Ok(Self { child })
    }

    /// Starts this very program as a server, which prints its address when it serves.
    pub fn spawn_self(role: &str, environment: &[(&str, &str)]) -> Result<(Self, SocketAddr)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role).envs(environment.iter().copied());
        let process = Self::spawn(command.stdout(Stdio::piped()))?;
        let stdout = lock(&process.child).stdout.take().ok_or("a child without output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("{role} did not start"))?;
        Ok((process, address))
    }

    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// Repeats the question until there is an answer, as long as the server runs.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
        let started = Instant::now();
        while started.elapsed() < START_TIMEOUT {
            if let Some(answer) = ask() {
                return Ok(answer);
            }
            if let Some(status) = lock(&self.child).try_wait()? {
                return Err(format!("{what} ended instead of serving: {status}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(format!("{what} does not serve after {} s", START_TIMEOUT.as_secs()).into())
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&lock(&self.child));
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        lock(&self.child).wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&self.child);
        lock(&CHILDREN).retain(|other| !Arc::ptr_eq(other, &self.child));
    }
}

fn end(child: &Mutex<Child>) {
    let mut child = lock(child);
    let _ = child.kill();
    let _ = child.wait();
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// On SIGINT, SIGTERM or SIGHUP, kills every child, removes `folder` and ends this process.
pub fn end_all_on_signals(folder: &Path) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let folder = folder.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let mut signals: Vec<_> = kinds.into_iter().map(|kind| signal(kind).unwrap()).collect();
            let received = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
            futures_util::future::select_all(received).await;
        });
        lock(&CHILDREN).iter().for_each(|child| end(child));
        let _ = fs::remove_dir_all(folder);
        std::process::exit(130);
    });
    Ok(())
}

/// Processor time, user and system, that a process and its ended children have used. `None`
/// where there is no /proc (macOS).
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = Stat::of(pid)?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(stat.ticks as f64 / per_second as f64))
}

/// The children of a process that are alive.
pub fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| Stat::of(pid).is_some_and(|stat| stat.parent == parent))
        .collect()
}

/// What is read of /proc/PID/stat (proc(5)).
struct Stat {
    parent: u32,
    /// utime, stime, cutime and cstime.
    ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        let ticks = fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Some(Self { parent: fields.get(1)?.parse().ok()?, ticks })
    }
}

/// Resident memory now, and at its highest, in MiB. `None` where there is no /proc (macOS).
pub fn memory(pid: u32) -> Option<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().ok()?;
        Some(kib / 1024.0)
    };
    Some((field("VmRSS")?, field("VmHWM")?))
}
