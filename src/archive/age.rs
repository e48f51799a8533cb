//! Encryption by the program `age` (<https://age-encryption.org>), through pipes: what is not
//! encrypted never touches the disk. The program, and not the crate of that name, because anybody
//! can open such a file with it, and because the crate would bring sixty others.
//!
//! Only public keys are needed to write. This never reads a secret key: `age` does.

use std::io::{self, Read as _, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// How an encrypted file begins, and how one begins that is encoded as text.
const BEGINNINGS: [&[u8]; 2] = [b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----"];
/// The most of its words that are repeated.
const WORDS: u64 = 4096;

/// Whether a file that begins like this is encrypted.
pub(super) fn is_encrypted(begins: &[u8]) -> bool {
    BEGINNINGS.iter().any(|beginning| begins.starts_with(beginning))
}

/// Whether the program is there.
#[must_use]
pub fn is_installed() -> bool {
    let mut command = Command::new("age");
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Encrypts what is written into it. It is whole only when [`Self::finish`] says so.
#[derive(Debug)]
pub(super) struct Encrypting {
    child: Child,
    /// `None` once everything was written.
    plain: Option<ChildStdin>,
}

impl Encrypting {
    /// Encrypts for these recipients, into `out`.
    pub(super) fn start(recipients: &[String], out: Stdio) -> io::Result<Self> {
        let mut command = Command::new("age");
        for recipient in recipients {
            command.arg("--recipient").arg(recipient);
        }
        let mut child = spawn(command.stdin(Stdio::piped()).stdout(out))?;
        let plain = child.stdin.take();
        Ok(Self { child, plain })
    }

    /// Returns once everything is encrypted and written.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.plain = None;
        self.ended()
    }

    /// Waits for the program, and fails as it did.
    fn ended(&mut self) -> io::Result<()> {
        let words = words(&mut self.child);
        if self.child.wait()?.success() { Ok(()) } else { Err(failed(&words)) }
    }

    /// A pipe that closes says nothing, but the program does.
    fn explain(&mut self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.plain = None;
            return self.ended().err().unwrap_or(error);
        }
        error
    }
}

impl Write for Encrypting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let plain = self.plain.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        plain.write(bytes).map_err(|error| self.explain(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Encrypting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Decrypts a file while it is read.
#[derive(Debug)]
pub(super) struct Decrypting {
    child: Child,
}

impl Decrypting {
    pub(super) fn start(file: &Path, identity: &Path) -> io::Result<(Self, ChildStdout)> {
        let mut command = Command::new("age");
        command.arg("--decrypt").arg("--identity").arg(identity).arg("--").arg(file);
        let mut child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let plain = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((Self { child }, plain))
    }

    /// What the program says once nothing more is read; `None` if it has nothing to complain of.
    pub(super) fn finish(mut self) -> io::Result<Option<String>> {
        let words = words(&mut self.child);
        let done = self.child.wait()?.success();
        Ok(if done || words.is_empty() { None } else { Some(words) })
    }
}

impl Drop for Decrypting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command) -> io::Result<Child> {
    command.stderr(Stdio::piped()).spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            error.kind(),
            "the program age is missing, which encrypts and decrypts archives: install it, for \
             example by `apt-get install age`",
        ),
        _ => error,
    })
}

/// What the program has to say, in one line.
fn words(child: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(stderr) = &mut child.stderr {
        let _ = stderr.take(WORDS).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    let lines = said.lines().map(|line| line.trim_start_matches("age: ").trim());
    // It ends by asking for reports of errors.
    let lines = lines.filter(|line| !line.is_empty() && !line.contains("report unexpected"));
    lines.map(|line| line.trim_start_matches("error: ")).collect::<Vec<_>>().join("; ")
}

fn failed(words: &str) -> io::Error {
    let words = if words.is_empty() { "it was stopped" } else { words };
    io::Error::other(format!("age could not encrypt: {words}"))
}
