//! The load generator, the same for all servers. A few threads share the keep-alive connections,
//! each with one poll loop. A closed loop sends a connection's next request when it has the last
//! answer. An open loop sends by the clock, and does not wait for answers.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{ClockId, clock_gettime};

use crate::Result;
use crate::wire::{Client, Reply};

/// The run fails when no connection gets an answer for this long.
const SILENCE: Duration = Duration::from_secs(20);
/// An open loop gives up a request that finds no free connection for this long.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a thread checks whether it should stop, and which requests are due.
const TICK: Duration = Duration::from_millis(100);

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const STOPPING: u8 = 2;

/// Requests per second, from then on (since the start).
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub from: Duration,
    pub per_second: f64,
}

#[derive(Debug, Clone)]
pub enum Pace {
    Closed,
    Open(Vec<Step>),
}

/// What to send, and how.
pub struct Load<'a> {
    pub address: SocketAddr,
    pub connections: usize,
    pub pace: Pace,
    /// Makes a connection's client.
    pub client: &'a dyn Fn() -> Box<dyn Client>,
}

/// One answer of an open loop.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// When the request was due, since the start.
    pub due: Duration,
    /// From when it was due until its answer was there.
    pub latency: Duration,
    pub reply: Reply,
}

/// The answers during the measurement.
pub struct Tally {
    /// From request to answer, in nanoseconds.
    pub latencies: Histogram<u64>,
    /// Of an open loop.
    pub events: Vec<Event>,
    /// Requests of an open loop that were due and never sent.
    pub unsent: usize,
    pub elapsed: Duration,
    /// Processor time of the generator's threads, warming up included.
    pub cpu: Duration,
}

impl Tally {
    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Running threads.
pub struct Running {
    phase: Arc<AtomicU8>,
    threads: Vec<JoinHandle<Result<Loop>>>,
    began: Instant,
}

/// One of the generator's threads for every four processors, since the servers need them too.
pub fn threads() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 4).max(1)
}

impl Running {
    pub fn start(load: &Load<'_>) -> Result<Self> {
        let phase = Arc::new(AtomicU8::new(WARMING_UP));
        let mut loops = Vec::new();
        for number in 0..threads() {
            let connections =
                load.connections / threads() + usize::from(number < load.connections % threads());
            let connections: Result<Vec<_>> =
                (0..connections).map(|_| Connection::open(load.address, (load.client)())).collect();
            loops.push(Loop::new(connections?, &load.pace, &phase)?);
        }
        let start = |looping: Loop| std::thread::spawn(|| looping.run());
        let threads = loops.into_iter().map(start).collect();
        Ok(Self { phase, threads, began: Instant::now() })
    }

    /// The warm-up is over.
    pub fn measure(&mut self) {
        self.began = Instant::now();
        self.phase.store(MEASURING, Ordering::Relaxed);
    }

    /// Stops, and gives up requests under way.
    pub fn finish(self) -> Result<Tally> {
        let elapsed = self.began.elapsed();
        self.phase.store(STOPPING, Ordering::Relaxed);
        let mut tally = Tally {
            latencies: histogram(),
            events: Vec::new(),
            unsent: 0,
            elapsed,
            cpu: Duration::ZERO,
        };
        for thread in self.threads {
            let ended = thread.join().map_err(|_| "a thread of the load generator panicked")??;
            tally.latencies.add(&ended.latencies)?;
            tally.events.extend(ended.events);
            tally.unsent += ended.unsent + ended.backlog.len();
            tally.cpu += ended.cpu;
        }
        Ok(tally)
    }
}

/// From a microsecond to a minute, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap()
}

struct Connection {
    stream: TcpStream,
    client: Box<dyn Client>,
    written: usize,
    /// The part of an answer that has come so far.
    input: Vec<u8>,
    /// When the request under way was sent, or due.
    since: Option<Instant>,
}

impl Connection {
    fn open(address: SocketAddr, client: Box<dyn Client>) -> Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream);
        Ok(Self { stream, client, written: 0, input: Vec::new(), since: None })
    }

    fn send(&mut self, since: Instant) -> Result<()> {
        self.client.next();
        self.written = 0;
        self.since = Some(since);
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        loop {
            let rest = &self.client.request()[self.written..];
            if rest.is_empty() {
                return Ok(());
            }
            match self.stream.write(rest) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads the bytes that have arrived. Returns the reply if it is complete.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Reply>> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let reply = if self.input.is_empty() {
                // Nearly always the whole answer, so that nothing is copied.
                let reply = self.client.answer(&buffer[..length])?;
                if reply.is_none() {
                    self.input.extend_from_slice(&buffer[..length]);
                }
                reply
            } else {
                self.input.extend_from_slice(&buffer[..length]);
                self.client.answer(&self.input)?
            };
            if reply.is_some() {
                self.input.clear();
                return Ok(reply);
            }
        }
    }
}

struct Loop {
    poll: Poll,
    connections: Vec<Connection>,
    phase: Arc<AtomicU8>,
    /// Of an open loop.
    schedule: Option<Schedule>,
    /// In the order of their turns, so that the server takes no connection for abandoned.
    idle: VecDeque<usize>,
    /// When requests were due for which no connection was free.
    backlog: VecDeque<Instant>,
    unsent: usize,
    latencies: Histogram<u64>,
    events: Vec<Event>,
    started: Instant,
    cpu: Duration,
}

impl Loop {
    fn new(mut connections: Vec<Connection>, pace: &Pace, phase: &Arc<AtomicU8>) -> Result<Self> {
        let poll = Poll::new()?;
        for (number, connection) in connections.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut connection.stream, Token(number), interest)?;
        }
        let started = Instant::now();
        let schedule = match pace {
            Pace::Closed => None,
            Pace::Open(steps) => Some(Schedule::new(steps, started)),
        };
        Ok(Self {
            poll,
            idle: (0..connections.len()).collect(),
            connections,
            phase: Arc::clone(phase),
            schedule,
            backlog: VecDeque::new(),
            unsent: 0,
            latencies: histogram(),
            events: Vec::new(),
            started,
            cpu: Duration::ZERO,
        })
    }

    fn run(mut self) -> Result<Self> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 256 * 1024];
        let mut answered = Instant::now();
        if self.schedule.is_none() {
            for number in std::mem::take(&mut self.idle) {
                self.connections[number].send(Instant::now())?;
            }
        }
        while self.phase.load(Ordering::Relaxed) != STOPPING {
            let wait = match &mut self.schedule {
                Some(schedule) => {
                    schedule.take_due(&mut self.backlog);
                    schedule.wait()
                }
                None => TICK,
            };
            self.send_backlog()?;
            if let Err(error) = self.poll.poll(&mut events, Some(wait))
                && error.kind() != ErrorKind::Interrupted
            {
                return Err(error.into());
            }
            for event in &events {
                if event.is_writable() && self.connections[event.token().0].since.is_some() {
                    self.connections[event.token().0].write()?;
                }
                if event.is_readable() || event.is_read_closed() {
                    answered = self.hear(event.token().0, &mut buffer)?.unwrap_or(answered);
                }
            }
            if events.is_empty() && answered.elapsed() > SILENCE && self.is_waiting() {
                return Err(format!("no answer for {} s", SILENCE.as_secs()).into());
            }
        }
        self.cpu = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime))?;
        Ok(self)
    }

    /// Reads from a connection; when an answer was complete.
    fn hear(&mut self, number: usize, buffer: &mut [u8]) -> Result<Option<Instant>> {
        let connection = &mut self.connections[number];
        let Some(reply) = connection.read(buffer)? else { return Ok(None) };
        let now = Instant::now();
        let since = connection.since.take().ok_or("an answer that nobody asked for")?;
        let latency = now.duration_since(since);
        if self.schedule.is_some() {
            self.events.push(Event { due: since.duration_since(self.started), latency, reply });
            self.idle.push_back(number);
            self.send_backlog()?;
        } else {
            if reply == Reply::Refused {
                return Err("refused as overloaded".into());
            }
            if self.phase.load(Ordering::Relaxed) == MEASURING {
                self.latencies.saturating_record(u64::try_from(latency.as_nanos())?);
            }
            connection.send(now)?;
        }
        Ok(Some(now))
    }

    fn is_waiting(&self) -> bool {
        self.connections.iter().any(|connection| connection.since.is_some())
    }

    fn send_backlog(&mut self) -> Result<()> {
        while let Some(due) = self.backlog.front().copied() {
            if due.elapsed() > PATIENCE {
                self.unsent += 1;
            } else if let Some(number) = self.idle.pop_front() {
                self.connections[number].send(due)?;
            } else {
                return Ok(());
            }
            self.backlog.pop_front();
        }
        Ok(())
    }
}

/// When the requests of one thread are due.
struct Schedule {
    steps: Vec<(Instant, f64)>,
    next: Instant,
}

impl Schedule {
    fn new(steps: &[Step], started: Instant) -> Self {
        let share = |step: &Step| (started + step.from, step.per_second / threads() as f64);
        Self { steps: steps.iter().map(share).collect(), next: started }
    }

    fn take_due(&mut self, due: &mut VecDeque<Instant>) {
        let now = Instant::now();
        while self.next <= now {
            let rate = self.steps.iter().rev().find(|(from, _)| *from <= self.next);
            match rate {
                Some((_, per_second)) if *per_second > 0.0 => {
                    // Not `self.next`: the server is not to blame when this thread wakes up to a
                    // millisecond late.
                    due.push_back(now);
                    self.next += Duration::from_secs_f64(per_second.recip());
                }
                _ => self.next += Duration::from_millis(1),
            }
        }
    }

    fn wait(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now()).min(TICK)
    }
}
