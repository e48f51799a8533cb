//! The seal at the end of an archive: a skippable zstd frame with the SHA-256 of all that precedes.

use std::io::{self, BufRead, Read, Write};

use sha2::{Digest, Sha256};

/// The magic number of a skippable frame, and the length of what is in it.
const HEAD: [u8; 8] = [0x50, 0x2A, 0x4D, 0x18, 32, 0, 0, 0];

/// The length of the seal.
pub(super) const LENGTH: usize = 40;

/// Hashes what it passes on.
pub(super) struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashing<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// What was read or written through it, and the seal of all bytes that passed.
    pub(super) fn finish(self) -> (T, [u8; LENGTH]) {
        let mut seal = [0; LENGTH];
        let bytes = HEAD.into_iter().chain(self.hash.finalize());
        seal.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        (self.inner, seal)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: BufRead> Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hash.update(bytes.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// Only what is consumed counts, and not what is only looked at.
impl<R: BufRead> BufRead for Hashing<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // What is consumed was looked at, so it is there.
        if let Ok(bytes) = self.inner.fill_buf() {
            self.hash.update(bytes.get(..count).unwrap_or_default());
        }
        self.inner.consume(count);
    }
}

/// The sum of a chunk, as the manifest has it.
pub(super) fn sum(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}
