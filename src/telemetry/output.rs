//! A thread of its own writes the lines of the log. Code that logs leaves a line here and
//! continues. A full disk, or a reader that is gone or does not read, never fails or delays that
//! code. Lines that cannot be written are counted.

use std::io::{ErrorKind, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::metrics::LogLinesDropped;

/// The most bytes that wait. At full load, that is about half a second of log.
const ROOM: usize = 4 * 1024 * 1024;
/// Lines come in bursts. The thread lets them gather for this long, so that one wake-up and one
/// write serve all of them. This much of the log is lost when the process is killed.
const GATHER: Duration = Duration::from_millis(5);
/// When a descriptor would block, it is tried again after this time.
const AGAIN: Duration = Duration::from_millis(10);

/// The place to leave lines. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dropped: LogLinesDropped,
    state: Mutex<State>,
    /// There are lines, or a flush wants them written at once.
    work: Condvar,
    /// No line waits, and none is being written.
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Lines,
    writing: bool,
    /// How many are waiting for [`Output::flush`].
    hurried: usize,
}

/// Whole lines, one after the other.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Lines {
    /// How many lines are not complete in the first `written` bytes.
    fn after(&self, written: usize) -> u64 {
        (self.ends.len() - self.ends.partition_point(|end| *end <= written)) as u64
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

impl Output {
    /// Starts a thread that writes for as long as the process lives.
    pub(super) fn start(
        to: impl Write + Send + 'static,
        dropped: LogLinesDropped,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            dropped,
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let output = Self(Arc::clone(&shared));
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_to(to))?;
        Ok(output)
    }

    /// Leaves one line, which ends with a newline, to be written soon. Never waits for the write.
    pub(super) fn line(&self, line: &[u8]) {
        let mut state = self.0.state();
        if state.waiting.bytes.len() + line.len() > ROOM {
            drop(state);
            self.0.dropped.full.inc();
            return;
        }
        let idle = state.waiting.ends.is_empty();
        state.waiting.bytes.extend_from_slice(line);
        let end = state.waiting.bytes.len();
        state.waiting.ends.push(end);
        drop(state);
        if idle {
            self.0.work.notify_one();
        }
    }

    /// Waits until every line that was left has been written or dropped, but no longer than this.
    pub(super) fn flush(&self, patience: Duration) {
        let mut state = self.0.state();
        state.hurried += 1;
        self.0.work.notify_one();
        let is_busy = |state: &mut State| state.writing || !state.waiting.ends.is_empty();
        let waited = self.0.done.wait_timeout_while(state, patience, is_busy);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.hurried -= 1;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut to: impl Write) {
        let mut lines = Lines::default();
        // Whether the last line was written only in part.
        let mut torn = false;
        loop {
            self.take(&mut lines);
            if torn {
                torn = write_all(&mut to, b"\n").is_err();
            }
            let written = if torn { Err(0) } else { write_all(&mut to, &lines.bytes) };
            if let Err(written) = written {
                torn |= written > 0 && !lines.ends.contains(&written);
                self.dropped.unwritable.inc_by(lines.after(written));
            }
            lines.clear();
        }
    }

    /// Waits for lines, and takes all of them.
    fn take(&self, lines: &mut Lines) {
        let mut state = self.state();
        state.writing = false;
        if state.waiting.ends.is_empty() {
            self.done.notify_all();
        }
        let state = self.work.wait_while(state, |state| state.waiting.ends.is_empty());
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.work.wait_timeout_while(state, GATHER, |state| state.hurried == 0);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        state.writing = true;
        mem::swap(lines, &mut state.waiting);
    }
}

/// Writes everything.
///
/// # Errors
/// How many bytes were written before it failed.
fn write_all(to: &mut impl Write, bytes: &[u8]) -> Result<(), usize> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return Err(written),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that shares the descriptor has made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(AGAIN),
            Err(_) => return Err(written),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _};

    use super::*;
    use crate::metrics::Metrics;

    const LONG: Duration = Duration::from_mins(1);

    struct Piped {
        reader: io::PipeReader,
        output: Output,
        dropped: LogLinesDropped,
    }

    fn piped() -> Piped {
        let dropped = Metrics::new().unwrap().log_lines_dropped;
        let (reader, writer) = io::pipe().unwrap();
        let output = Output::start(writer, dropped.clone()).unwrap();
        Piped { reader, output, dropped }
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let Piped { mut reader, output, .. } = piped();
        let lines: Vec<_> = (0..10_000).map(|number| format!("line {number}\n")).collect();
        let expected = lines.concat();
        let mut text = vec![0; expected.len()];
        let reading = thread::spawn(move || reader.read_exact(&mut text).map(|()| text));
        for line in lines {
            output.line(line.as_bytes());
        }
        assert!(reading.join().unwrap().unwrap() == expected.as_bytes());
    }

    #[test]
    fn a_flush_waits_for_the_last_line() {
        let Piped { mut reader, output, .. } = piped();
        for number in 0..100 {
            let line = format!("{number}\n");
            output.line(line.as_bytes());
            output.flush(LONG);
            let mut text = [0; 16];
            let length = reader.read(&mut text).unwrap();
            assert_eq!(&text[..length], line.as_bytes());
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_delays_nothing() {
        let Piped { reader, output, dropped } = piped();
        // Nothing reads, and a line is longer than what a pipe holds. Only what the thread has
        // taken, and what waits, is not dropped yet.
        for _ in 0..200 {
            output.line(&vec![b'x'; ROOM / 50]);
        }
        output.flush(Duration::from_millis(1));
        let full = dropped.full.get();
        assert!((100..=150).contains(&full), "{full}");
        assert_eq!(dropped.unwritable.get(), 0);

        drop(reader);
        output.flush(LONG);
        assert_eq!(dropped.unwritable.get(), 200 - full);
        output.line(b"no longer\n");
        output.flush(LONG);
        assert_eq!(dropped.unwritable.get(), 201 - full);
    }

    #[test]
    fn a_line_that_was_torn_does_not_spoil_the_next() {
        let (disk, dropped) = (Disk::default(), Metrics::new().unwrap().log_lines_dropped);
        let output = Output::start(disk.clone(), dropped.clone()).unwrap();
        let tell = |room, line: &[u8]| {
            *disk.room.lock().unwrap() = room;
            output.line(line);
            output.flush(LONG);
        };
        tell(100, b"whole\n");
        tell(2, b"torn\n");
        tell(0, b"lost\n");
        tell(100, b"whole again\n");
        let text = String::from_utf8(disk.text.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "whole\nto\nwhole again\n");
        assert_eq!((dropped.unwritable.get(), dropped.full.get()), (2, 0));
    }

    /// A disk with room for so many bytes.
    #[derive(Clone, Default)]
    struct Disk {
        room: Arc<Mutex<usize>>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut room = self.room.lock().unwrap();
            if *room == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let fits = bytes.len().min(*room);
            self.text.lock().unwrap().extend_from_slice(&bytes[..fits]);
            *room -= fits;
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_are_not_whole_are_counted() {
        let lines = Lines { bytes: b"a\nbc\nd\n".to_vec(), ends: vec![2, 5, 7] };
        let missing: Vec<_> = (0..=7).map(|written| lines.after(written)).collect();
        assert_eq!(missing, [3, 3, 2, 2, 2, 1, 1, 0]);
    }
}
