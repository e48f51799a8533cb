//! Where an archive goes: a file that has its name only once it is whole, or standard output; as it
//! is, or encrypted on its way.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Stdio;

use super::Draft;
use super::age::Encrypting;

/// What an archive is written into. It is whole once it is [published](Self::publish).
#[derive(Debug)]
pub struct Output {
    /// `None` for standard output.
    draft: Option<Draft>,
    age: Option<Encrypting>,
}

impl Output {
    /// Into this file, encrypted if there is a recipient.
    pub fn file(draft: Draft, recipients: &[String]) -> io::Result<Self> {
        let age = encrypting(recipients, || draft.stdio())?;
        Ok(Self { draft: Some(draft), age })
    }

    /// Standard output, encrypted if there is a recipient.
    pub fn standard(recipients: &[String]) -> io::Result<Self> {
        Ok(Self { draft: None, age: encrypting(recipients, || Ok(Stdio::inherit()))? })
    }

    /// Ends the encryption, and gives the file its name, which it returns; `None` for standard
    /// output.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when something came to be at its place meanwhile.
    pub fn publish(self) -> io::Result<Option<PathBuf>> {
        if let Some(age) = self.age {
            age.finish()?;
        }
        self.draft.map(Draft::publish).transpose()
    }
}

fn encrypting(
    recipients: &[String],
    out: impl FnOnce() -> io::Result<Stdio>,
) -> io::Result<Option<Encrypting>> {
    if recipients.is_empty() {
        return Ok(None);
    }
    Encrypting::start(recipients, out()?).map(Some)
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (&mut self.age, &mut self.draft) {
            (Some(age), _) => age.write(bytes),
            (None, Some(draft)) => draft.write(bytes),
            (None, None) => io::stdout().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match (&mut self.age, &mut self.draft) {
            (Some(age), _) => age.flush(),
            (None, Some(draft)) => draft.flush(),
            (None, None) => io::stdout().flush(),
        }
    }
}
