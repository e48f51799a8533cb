//! What is written is read; anything else is refused, and by name.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::domain::Timestamp;

type Chunks = Vec<(String, String)>;

fn origin() -> Origin {
    Origin {
        source: "sqlite".to_owned(),
        schema: "2026-11-29-000080_history".to_owned(),
        generation: uuid::Uuid::from_bytes([7; 16]),
        taken_at: Timestamp::from_timestamp_nanos(1_795_176_000_123_456_000),
    }
}

/// Lines that do not compress well, so that the file has many bytes of every kind.
fn lines(table: &str, count: u32) -> String {
    let mut text = String::new();
    for n in 0..count {
        writeln!(text, "{{\"{table}\":\"{:08x}\"}}", n.wrapping_mul(0x9e37_79b9)).unwrap();
    }
    text
}

fn chunks() -> Chunks {
    [("dids", 3), ("nonces", 40), ("nonces", 40), ("nonces", 1), ("signers", 2)]
        .map(|(table, count)| (table.to_owned(), lines(table, count)))
        .into()
}

fn written(chunks: &[(String, String)]) -> (Vec<u8>, Manifest) {
    let mut writer = Writer::new(Vec::new(), origin()).unwrap();
    for (table, lines) in chunks {
        writer.chunk(table, lines.lines().count() as u64, lines.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

/// A file to read in a folder of its own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn read(&self, bytes: &[u8]) -> Result<(Manifest, Chunks), InvalidArchive> {
        let path = self.0.path().join("archive");
        fs::write(&path, bytes).unwrap();
        let mut chunks = Vec::new();
        let manifest = read::<InvalidArchive>(&path, None, |table, lines| {
            chunks.push((table.to_owned(), String::from_utf8_lossy(&lines).into_owned()));
            Ok(())
        })?;
        Ok((manifest, chunks))
    }
}

#[test]
fn what_was_written_is_read() {
    let (bytes, manifest) = written(&chunks());
    let read = Place::new().read(&bytes).unwrap();
    assert_eq!(read, (manifest.clone(), chunks()));
    assert_eq!(manifest.origin, origin());
    assert_eq!(manifest.rows(), 86);
    let nonces = manifest.tables.iter().find(|table| table.name == "nonces").unwrap();
    let files: Vec<_> = nonces.chunks.iter().map(|c| (c.file.as_str(), c.rows)).collect();
    let name = |n| format!("nonces/00000{n}.ndjson");
    assert_eq!(files, [(name(1).as_str(), 40), (name(2).as_str(), 40), (name(3).as_str(), 1)]);

    let (bytes, manifest) = written(&[]);
    assert_eq!(Place::new().read(&bytes).unwrap(), (manifest, Vec::new()));
}

#[test]
fn one_changed_byte_is_found_wherever_it_is() {
    let (bytes, _) = written(&chunks());
    let place = Place::new();
    for offset in 0..bytes.len() {
        for change in [0x01, 0x20, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[offset] ^= change;
            let Err(error) = place.read(&changed) else { panic!("{offset} ^ {change}") };
            // All of it is in one block, so a change in that spoils every entry.
            let InvalidArchive::Damaged { place, .. } = error else { continue };
            assert!(!place.is_empty(), "{offset} ^ {change}");
        }
    }
}

#[test]
fn the_chunk_that_changed_is_named() {
    let large: Chunks =
        ["dids", "nonces", "signers"].map(|table| (table.to_owned(), lines(table, 60_000))).into();
    let (bytes, _) = written(&large);
    let place = Place::new();
    let mut named = Vec::new();
    for part in 1..20 {
        let mut changed = bytes.clone();
        changed[bytes.len() * part / 20] ^= 0x10;
        let error = place.read(&changed).unwrap_err().to_string();
        for name in ["onceguard-archive.json", "dids/000001", "nonces/000001", "its end"] {
            if error.contains(name) {
                named.push(name);
            }
        }
    }
    named.dedup();
    assert!(named.contains(&"dids/000001") && named.contains(&"nonces/000001"), "{named:?}");
}

#[test]
fn a_truncated_archive_is_refused_at_every_length() {
    let (bytes, _) = written(&chunks());
    let place = Place::new();
    for length in 0..bytes.len() {
        let Err(error) = place.read(&bytes[..length]) else { panic!("{length}") };
        let named = matches!(error, InvalidArchive::Truncated { .. } | InvalidArchive::Unknown)
            || length > bytes.len() - 2 * seal::LENGTH;
        assert!(named, "{length} of {}: {error}", bytes.len());
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(place.read(&longer).is_err());
}

#[test]
fn a_changed_chunk_with_a_fresh_seal_is_still_not_what_the_manifest_says() {
    let (_, manifest) = written(&chunks());
    for (number, name) in [(0, "dids/000001"), (2, "nonces/000002"), (4, "signers/000001")] {
        let mut changed = chunks();
        changed[number].1 = changed[number].1.replacen('0', "1", 1);
        let mut writer = Writer::new(Vec::new(), origin()).unwrap();
        for (table, lines) in &changed {
            writer.chunk(table, lines.lines().count() as u64, lines.as_bytes()).unwrap();
        }
        writer.pretend(manifest.tables.clone());
        let (bytes, _) = writer.finish().unwrap();
        let error = Place::new().read(&bytes).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

/// A chunk that the manifest does not have, and one that only the manifest has.
#[test]
fn a_chunk_too_many_or_too_few_is_refused() {
    let tables = written(&chunks()).1.tables;
    for (part, said) in [(chunks(), &tables[..2]), (chunks()[..4].to_vec(), &tables[..])] {
        let mut writer = Writer::new(Vec::new(), origin()).unwrap();
        for (table, lines) in &part {
            writer.chunk(table, lines.lines().count() as u64, lines.as_bytes()).unwrap();
        }
        writer.pretend(said.to_vec());
        let error = Place::new().read(&writer.finish().unwrap().0).unwrap_err().to_string();
        assert!(error.contains("manifest.json"), "{error}");
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    let text = br#"{"format":2,"colour":"green"}"#;
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, FORMAT_ENTRY, &text[..]).unwrap();
    let mut bytes = tar.into_inner().unwrap().finish().unwrap();
    bytes.extend([7; 100]);
    let error = Place::new().read(&bytes).unwrap_err();
    assert!(matches!(error, InvalidArchive::Newer(2)), "{error}");
    assert!(error.to_string().contains("format 2"), "{error}");
}

#[test]
fn other_files_are_no_archives() {
    let other = zstd::encode_all(lines("dids", 60_000).as_bytes(), 1).unwrap();
    for bytes in [b"".to_vec(), vec![0; 2000], b"SQLite format 3\0".repeat(200), other] {
        let error = Place::new().read(&bytes).unwrap_err();
        assert!(matches!(error, InvalidArchive::Unknown), "{error}");
    }
    let error =
        read::<InvalidArchive>(Path::new("/nowhere/at/all"), None, |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, InvalidArchive::Io(_)), "{error}");
}

/// For all that zstd and tar make of it, with the tools that people have.
#[test]
fn an_archive_is_plain_zstd_and_tar() {
    let (bytes, manifest) = written(&chunks());
    let plain = zstd::decode_all(&bytes[..]).unwrap();
    let mut archive = tar::Archive::new(&plain[..]);
    let names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names.len(), 7);
    assert_eq!((names[0].as_str(), names[6].as_str()), (FORMAT_ENTRY, MANIFEST_ENTRY));
    let chunks = manifest.tables.iter().flat_map(|table| &table.chunks);
    assert!(chunks.map(|chunk| &chunk.file).eq(&names[1..6]));
}

#[test]
fn a_draft_has_its_name_once_it_is_published_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar.zst");
    let count = || fs::read_dir(folder.path()).unwrap().count();

    let mut draft = Draft::create(&path).unwrap();
    draft.write_all(b"one").unwrap();
    assert!(!path.exists());
    drop(draft);
    assert_eq!(count(), 0, "a draft that is given up is removed");

    let (mut one, mut two) = (Draft::create(&path).unwrap(), Draft::create(&path).unwrap());
    one.write_all(b"one").unwrap();
    two.write_all(b"two").unwrap();
    one.publish().unwrap();
    let late = two.publish().unwrap_err();
    assert_eq!(late.kind(), std::io::ErrorKind::AlreadyExists);
    let early = Draft::create(&path).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"one");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(count(), 1);
}
