//! Signed heads: what the log was at a time, as a C2SP checkpoint in a signed note, so that those
//! who keep one find out when the log before it was written anew.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Hash;
use crate::domain::{Timestamp, rfc3339};

/// What a head's first line begins with.
const ORIGIN: &str = "onceguard/events/";
/// What a signature's line begins with (C2SP signed note).
const MARK: &str = "\u{2014} ";
/// The kind of a key that is Ed25519 (C2SP signed note).
const ED25519: u8 = 1;

/// The log up to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Which log.
    pub origin: Uuid,
    /// The place of its last event.
    pub sequence: u64,
    pub hash: Hash,
    pub at: Timestamp,
}

/// A head as it is handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    pub head: Head,
    /// The text that is signed, and the signature.
    pub note: String,
}

/// Signs heads, and checks their signatures.
#[derive(Clone)]
pub struct HeadKey(SigningKey);

/// Why a text is no signed head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHead {
    #[error("is no signed head of a log of onceguard")]
    Form,
    #[error("is signed with a key that is not one of the sealing keys'")]
    OtherKey,
    #[error("has a signature that does not fit")]
    Signature,
}

impl Head {
    fn name(&self) -> String {
        format!("{ORIGIN}{}", self.origin)
    }

    fn text(&self) -> String {
        let (name, hash) = (self.name(), STANDARD.encode(self.hash));
        let at = rfc3339(self.at);
        format!("{name}\n{}\n{hash}\n{at}\n", self.sequence)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let origin = Uuid::try_parse(lines.next()?.strip_prefix(ORIGIN)?).ok()?;
        let sequence = lines.next()?.parse().ok()?;
        let hash = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
        let at: DateTime<Utc> = DateTime::parse_from_rfc3339(lines.next()?).ok()?.into();
        let head = Self { origin, sequence, hash, at };
        // Only one text says this.
        (head.text() == text).then_some(head)
    }
}

impl HeadKey {
    /// The key whose secret half is these bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    #[must_use]
    pub fn sign(&self, head: Head) -> SignedHead {
        let (text, name) = (head.text(), head.name());
        let public = self.0.verifying_key();
        let mut signed = key_id(&name, &public).to_vec();
        signed.extend_from_slice(&self.0.sign(text.as_bytes()).to_bytes());
        SignedHead { head, note: format!("{text}\n{MARK}{name} {}\n", STANDARD.encode(signed)) }
    }
}

impl SignedHead {
    /// The notes of a file, in which an empty line is between them.
    #[must_use]
    pub fn notes(text: &str) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        for line in text.lines() {
            if line.starts_with(ORIGIN) {
                notes.push(String::new());
            }
            if let Some(note) = notes.last_mut() {
                note.push_str(line);
                note.push('\n');
            }
        }
        notes.into_iter().map(|note| format!("{}\n", note.trim_end())).collect()
    }

    /// Reads a head, and checks its signature against the key that it names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(note: &str, keys: &[HeadKey]) -> Result<Self, InvalidHead> {
        let (text, signature) = note.split_once("\n\n").ok_or(InvalidHead::Form)?;
        let text = format!("{text}\n");
        let head = Head::parse(&text).ok_or(InvalidHead::Form)?;
        let name = head.name();
        let signature = signature.strip_prefix(MARK).and_then(|rest| rest.strip_prefix(&name));
        let signature = signature.and_then(|rest| rest.strip_prefix(' ')?.strip_suffix('\n'));
        let signed = signature.and_then(|encoded| STANDARD.decode(encoded).ok());
        let signed = signed.ok_or(InvalidHead::Form)?;
        let (id, signature) = signed.split_first_chunk::<4>().ok_or(InvalidHead::Form)?;
        let signature = Signature::from_slice(signature).map_err(|_| InvalidHead::Form)?;
        let public = keys.iter().map(|key| key.0.verifying_key());
        let public = public.into_iter().find(|public| key_id(&name, public) == *id);
        let public = public.ok_or(InvalidHead::OtherKey)?;
        public.verify_strict(text.as_bytes(), &signature).map_err(|_| InvalidHead::Signature)?;
        Ok(Self { head, note: note.to_owned() })
    }
}

/// The first bytes of a hash of the key and its name (C2SP signed note).
fn key_id(name: &str, public: &VerifyingKey) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519])
        .chain_update(public.as_bytes())
        .finalize();
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let at = DateTime::from_timestamp_micros(1_800_000_000_000_001).unwrap();
        Head { origin: Uuid::from_u128(9), sequence: 12, hash: [7; 32], at }
    }

    #[test]
    fn a_signed_head_reads_as_it_was_signed_by_its_key_only() {
        let (key, other) = (HeadKey::new(&[1; 32]), HeadKey::new(&[2; 32]));
        let signed = key.sign(head());
        let keys = [other.clone(), key.clone()];
        assert_eq!(SignedHead::read(&signed.note, &keys), Ok(signed.clone()));
        assert_eq!(SignedHead::read(&signed.note, &[other]), Err(InvalidHead::OtherKey));
        for (from, to) in [("\n12\n", "\n13\n"), ("Bw", "Cw"), ("2027", "2028")] {
            let changed = signed.note.replacen(from, to, 1);
            assert_ne!(changed, signed.note);
            assert_eq!(SignedHead::read(&changed, &keys), Err(InvalidHead::Signature), "{from}");
        }
        for wrong in
            ["", "x\n\ny", &signed.note[..signed.note.len() - 1], &format!("{}x", signed.note)]
        {
            assert_eq!(SignedHead::read(wrong, &keys), Err(InvalidHead::Form), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_has_many_also_after_one_that_was_cut_short() {
        let key = HeadKey::new(&[1; 32]);
        let notes = [12, 13, 14].map(|sequence| key.sign(Head { sequence, ..head() }).note);
        let text = notes.join("\n");
        assert_eq!(SignedHead::notes(&text), notes);
        let cut = format!("{}\n{}", &notes[0][..70], notes[1]);
        assert_eq!(SignedHead::notes(&cut)[1..], notes[1..2]);
        assert_eq!(SignedHead::notes("nothing\n"), Vec::<String>::new());
    }

    #[test]
    fn it_has_the_form_of_a_checkpoint() {
        let note = HeadKey::new(&[1; 32]).sign(head()).note;
        let lines: Vec<_> = note.lines().collect();
        let [origin, size, hash, _at, "", signature] = lines[..] else { panic!("{note}") };
        assert_eq!(origin, "onceguard/events/00000000-0000-0000-0000-000000000009");
        assert_eq!((size, STANDARD.decode(hash).unwrap()), ("12", vec![7; 32]));
        assert!(signature.starts_with(&format!("\u{2014} {origin} ")));
    }
}
