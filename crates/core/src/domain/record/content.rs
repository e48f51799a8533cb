//! What a client encrypted: an initialization vector, a ciphertext, and the checksum of both. The
//! checksum shows damage; it is no proof of who wrote it, and nothing here decrypts.

use std::fmt;

use sha2::{Digest, Sha256};

/// SHA-256 of the bytes of the initialization vector and of the ciphertext, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum(pub [u8; 32]);

/// An initialization vector and a ciphertext that fit a checksum.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedContent {
    iv: [u8; 12],
    ciphertext: Vec<u8>,
    checksum: Checksum,
}

/// The parts are no sealed content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContent {
    #[error("must be 1 to {} bytes, before base64", SealedContent::MAX_LEN)]
    Length,
    #[error("is not the SHA-256 of the bytes of iv and ciphertext")]
    Checksum,
}

impl Checksum {
    fn of(iv: [u8; 12], ciphertext: &[u8]) -> Self {
        Self(Sha256::new().chain_update(iv).chain_update(ciphertext).finalize().into())
    }

    /// Reads 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let decoded = base16ct::lower::decode(text, &mut bytes).ok()?;
        (decoded.len() == 32).then_some(Self(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}

impl SealedContent {
    /// The most bytes of a ciphertext.
    pub const MAX_LEN: usize = 1_000_000;

    /// # Errors
    /// [`InvalidContent`] when the ciphertext is empty or too long, or is another one.
    pub fn new(
        iv: [u8; 12],
        ciphertext: Vec<u8>,
        checksum: Checksum,
    ) -> Result<Self, InvalidContent> {
        if !(1..=Self::MAX_LEN).contains(&ciphertext.len()) {
            return Err(InvalidContent::Length);
        }
        if Checksum::of(iv, &ciphertext) != checksum {
            return Err(InvalidContent::Checksum);
        }
        Ok(Self { iv, ciphertext, checksum })
    }

    #[must_use]
    pub const fn iv(&self) -> &[u8; 12] {
        &self.iv
    }

    #[must_use]
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }

    #[must_use]
    pub const fn checksum(&self) -> Checksum {
        self.checksum
    }
}

/// Shows no content.
impl fmt::Debug for SealedContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedContent({} bytes)", self.ciphertext.len())
    }
}
