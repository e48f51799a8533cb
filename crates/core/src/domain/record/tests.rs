use proptest::prelude::*;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::*;

fn checksum(iv: [u8; 12], ciphertext: &[u8]) -> Checksum {
    Checksum(Sha256::digest([iv.as_slice(), ciphertext].concat()).into())
}

#[test]
fn kinds_and_ids_have_their_forms() {
    for text in ["key", "a", "0-9_z", &"k".repeat(32)] {
        assert_eq!(RecordKind::parse(text).unwrap().as_str(), text);
    }
    for text in ["", "Key", "a b", "a.b", "é", "a/b", &"k".repeat(33)] {
        assert_eq!(RecordKind::parse(text), Err(InvalidRecordKind), "{text:?}");
    }
    for text in ["1", "a/b?c#d%20", "!~", &"i".repeat(255)] {
        assert_eq!(RecordId::parse(text).unwrap().as_str(), text);
    }
    for text in ["", " ", "a b", "é", "a\n", "\u{7f}", &"i".repeat(256)] {
        assert_eq!(RecordId::parse(text), Err(InvalidRecordId), "{text:?}");
    }
}

#[test]
fn content_fits_its_checksum_and_has_a_million_bytes_at_most() {
    let iv = [7; 12];
    for length in [1, 16, 1_000_000] {
        let ciphertext = vec![1; length];
        let content = SealedContent::new(iv, ciphertext.clone(), checksum(iv, &ciphertext));
        assert_eq!(content.unwrap().ciphertext(), ciphertext);
    }
    for length in [0, 1_000_001] {
        let ciphertext = vec![1; length];
        let content = SealedContent::new(iv, ciphertext.clone(), checksum(iv, &ciphertext));
        assert_eq!(content, Err(InvalidContent::Length));
    }
    let other = SealedContent::new(iv, vec![1; 16], checksum([8; 12], &[1; 16]));
    assert_eq!(other, Err(InvalidContent::Checksum));
}

#[test]
fn content_is_never_shown() {
    let content = SealedContent::new([7; 12], vec![65; 3], checksum([7; 12], &[65; 3])).unwrap();
    assert_eq!(format!("{content:?}"), "SealedContent(3 bytes)");
}

#[test]
fn a_checksum_is_64_lower_case_digits() {
    let text = "00ff".repeat(16);
    assert_eq!(Checksum::parse(&text).unwrap().to_string(), text);
    for text in ["", "00", &"00FF".repeat(16), &"0g".repeat(32), &"00".repeat(33)] {
        assert_eq!(Checksum::parse(text), None, "{text:?}");
    }
}

#[test]
fn a_precondition_holds_by_the_tag_of_what_is_there() {
    let tag = RecordTag { version: 3, random: [0, 0xf1, 2, 3, 4, 5, 6, 7] };
    assert_eq!(tag.to_string(), "\"3.00f1020304050607\"");
    let other = RecordTag { random: [0; 8], ..tag };
    let tags = Precondition::Tags(vec!["\"x\"".to_owned(), tag.to_string()]);
    for (precondition, absent, present, changed) in [
        (Precondition::Absent, true, false, false),
        (Precondition::Present, false, true, true),
        (tags, false, true, false),
        (Precondition::Tags(vec![]), false, false, false),
    ] {
        let holds = [None, Some(&tag), Some(&other)].map(|current| precondition.holds(current));
        assert_eq!(holds, [absent, present, changed], "{precondition:?}");
    }
}

proptest! {
    #[test]
    fn a_cursor_reads_back(owner: u128, generation: u128, sequence in 0..i64::MAX, began in 0..i64::MAX) {
        let (owner, generation) = (Uuid::from_u128(owner), Uuid::from_u128(generation));
        let cursor = RecordCursor { owner, generation, sequence, began };
        prop_assert_eq!(RecordCursor::parse(&cursor.encode()), Ok(cursor));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,300}") {
        let _ = (RecordCursor::parse(&text), Checksum::parse(&text));
        if let Ok(kind) = RecordKind::parse(&text) {
            prop_assert_eq!(kind.as_str(), text.as_str());
        }
        if let Ok(id) = RecordId::parse(&text) {
            prop_assert!(!id.as_str().contains(' '));
        }
    }
}
