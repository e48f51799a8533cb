//! Search: DIDs and sessions are found by their words. The words are made here, so that both databases
//! hold the same ones.

use std::collections::BTreeSet;

use chrono::DateTime;
use uuid::Uuid;

use super::{Cursor, Did, DidRecord, InvalidCursor, Metadata, Page, Session, SessionId, Timestamp};

/// Of a longer word, so many characters count.
const MAX_WORD_CHARS: usize = 128;
/// The most different words that one DID or session is found by; those beyond are not kept.
const MAX_WORDS: usize = 500;
/// The most different words that can be asked for.
const MAX_ASKED: usize = 32;

/// Different words in lower case, of letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words(BTreeSet<String>);

/// The text does not ask for words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSearch {
    #[error("must have a word, of letters or digits")]
    NoWord,
    #[error("must have at most 32 different words")]
    TooManyWords,
}

impl Words {
    /// What is asked for: all of these words must be there.
    ///
    /// # Errors
    /// [`InvalidSearch`] when there is no word, or there are too many.
    pub fn asked(text: &str) -> Result<Self, InvalidSearch> {
        let mut words = Self::default();
        words.add(text);
        match words.0.len() {
            0 => Err(InvalidSearch::NoWord),
            1..=MAX_ASKED => Ok(words),
            _ => Err(InvalidSearch::TooManyWords),
        }
    }

    #[must_use]
    pub fn of_did(did: &Did) -> Self {
        let mut words = Self::default();
        words.add(did.as_str());
        words
    }

    /// Those of the names, texts and numbers; `None` where there is no metadata.
    #[must_use]
    pub fn of_metadata(metadata: &Metadata) -> Option<Self> {
        if metadata.as_str() == "{}" {
            return None;
        }
        let mut words = Self::default();
        let mut rest = metadata.as_str();
        while let Some((outside, string, after)) = next_string(rest) {
            words.add_numbers(outside);
            // What an earlier version or another hand wrote may be no string. It has no words.
            words.add(&serde_json::from_str::<String>(string).unwrap_or_default());
            rest = after;
        }
        words.add_numbers(rest);
        Some(words)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The words with a space between two of them, which no word has.
    #[must_use]
    pub fn spaced(&self) -> String {
        self.iter().collect::<Vec<_>>().join(" ")
    }

    fn add(&mut self, text: &str) {
        for word in text.split(|character: char| !character.is_alphanumeric()) {
            self.insert(word);
        }
    }

    /// Of what stands outside of strings, `true`, `false` and `null` are no words.
    fn add_numbers(&mut self, json: &str) {
        for digits in json.split(|character: char| !character.is_ascii_digit()) {
            self.insert(digits);
        }
    }

    fn insert(&mut self, word: &str) {
        if !word.is_empty() && self.0.len() < MAX_WORDS {
            self.0.insert(word.to_lowercase().chars().take(MAX_WORD_CHARS).collect());
        }
    }
}

/// The text before the next string of a JSON text, the string with its quotes, and the text after it.
fn next_string(json: &str) -> Option<(&str, &str, &str)> {
    let (outside, from) = json.split_at_checked(json.find('"')?)?;
    let mut escaped = false;
    let end = from.bytes().skip(1).position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    let (string, after) = from.split_at_checked(end? + 2)?;
    Some((outside, string, after))
}

/// What is searched for, and among what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    pub words: Words,
    pub dids: bool,
    pub sessions: bool,
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    Did(DidRecord),
    Session(Session),
}

/// What came of a search.
#[derive(Debug, Clone, PartialEq)]
pub enum Searched {
    Page(Page<Found>),
    /// Something is stored whose words are not in the index yet: an answer could lack it.
    Indexing,
}

/// Where something stands among what is found: the newest comes first; of those that are equally old,
/// DIDs before sessions, each from the last to the first in the order of its ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPlace {
    pub created_at: Timestamp,
    pub id: FoundId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundId {
    Did(String),
    Session(SessionId),
}

impl FoundPlace {
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let mut position = self.created_at.timestamp_micros().to_be_bytes().to_vec();
        match &self.id {
            FoundId::Did(did) => {
                position.push(b'd');
                position.extend(did.as_bytes());
            }
            FoundId::Session(id) => {
                position.push(b's');
                position.extend(id.0.as_bytes());
            }
        }
        Cursor::new(position)
    }
}

impl TryFrom<&Cursor> for FoundPlace {
    type Error = InvalidCursor;

    fn try_from(cursor: &Cursor) -> Result<Self, InvalidCursor> {
        let (micros, rest) = cursor.position().split_first_chunk().ok_or(InvalidCursor)?;
        let created_at =
            DateTime::from_timestamp_micros(i64::from_be_bytes(*micros)).ok_or(InvalidCursor)?;
        let id = match rest.split_first().ok_or(InvalidCursor)? {
            (b'd', did) => {
                let text = std::str::from_utf8(did).map_err(|_| InvalidCursor)?;
                FoundId::Did(Did::parse(text).map_err(|_| InvalidCursor)?.as_str().to_owned())
            }
            (b's', id) => {
                FoundId::Session(SessionId(Uuid::from_slice(id).map_err(|_| InvalidCursor)?))
            }
            _ => return Err(InvalidCursor),
        };
        Ok(Self { created_at, id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::to_raw_value;
    use serde_json::{Value, json};

    use super::*;

    fn of(metadata: &Value) -> Option<String> {
        let metadata = Metadata::parse(&to_raw_value(metadata).unwrap()).unwrap();
        Words::of_metadata(&metadata).map(|words| words.spaced())
    }

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        for (text, words) in [
            ("Hello, WORLD", "hello world"),
            ("a-b_c.d/e", "a b c d e"),
            ("x x X", "x"),
            ("Straße ÉTÉ ΟΔΟΣ", "straße été οδος"),
            ("注文 7番", "7番 注文"),
            ("did:web:shop.example%3A8443:Agent", "3a8443 agent did example shop web"),
        ] {
            assert_eq!(Words::asked(text).unwrap().spaced(), words, "{text}");
        }
        // Its lower case is two characters, of which the second is no letter.
        assert_eq!(Words::asked("İ").unwrap().spaced(), "i\u{307}");
    }

    #[test]
    fn a_did_is_found_by_its_own_words() {
        let did = Did::parse("did:web:shop.example:Agent-7").unwrap();
        assert_eq!(Words::of_did(&did), Words::asked(did.as_str()).unwrap());
    }

    #[test]
    fn metadata_is_found_by_its_names_texts_and_numbers() {
        let metadata = json!({
            "Order id": "A-7", "lines": [{"net": 12.50}, -3], "note": "said \"hi\\\"\n\tLine2 \u{1}z",
            "paid": true, "due": null, "": "", "true words": "null",
        });
        let words = "12 3 5 7 a due hi id line2 lines net note null order paid said true words z";
        assert_eq!(of(&metadata).as_deref(), Some(words));
        assert_eq!(of(&json!({})), None);
        assert_eq!(of(&json!({"": "--"})), Some(String::new()));
        assert_eq!(of(&json!({"a": "é\u{301}\u{1F600}b"})), Some("a b é".to_owned()));
    }

    #[test]
    fn what_is_no_json_has_the_words_that_can_be_read() {
        for (text, words) in [
            (r#"{"a":"b"#, "a"),
            (r#"{"a":"\x"} 7"#, "7 a"),
            (r#"{"a\"#, ""),
            (r#"""#, ""),
            (r#"{"a":"b\\","c":1}"#, "1 a b c"),
        ] {
            let words_of = Words::of_metadata(&Metadata::kept(text.to_owned())).unwrap();
            assert_eq!(words_of.spaced(), words, "{text}");
        }
    }

    #[test]
    fn words_and_their_number_are_bounded() {
        let long = "é".repeat(MAX_WORD_CHARS);
        assert_eq!(Words::asked(&format!("{long}xyz")).unwrap().spaced(), long);
        let many: Vec<_> = (0..1000).map(|n| format!("w{n}")).collect();
        let kept = of(&json!({"many": many})).unwrap();
        assert_eq!(kept.split(' ').count(), MAX_WORDS);
        assert_eq!(Words::asked(&many.join(" ")), Err(InvalidSearch::TooManyWords));
        assert!(Words::asked(&many[..MAX_ASKED].join(" ")).is_ok());
        for nothing in ["", " ", "--", "\u{301}", "%"] {
            assert_eq!(Words::asked(nothing), Err(InvalidSearch::NoWord), "{nothing:?}");
        }
    }

    #[test]
    fn a_place_reads_back_and_no_other_cursor_is_one() {
        let created_at = DateTime::from_timestamp_micros(1_700_000_000_000_001).unwrap();
        for id in [FoundId::Did("did:web:a".to_owned()), FoundId::Session(SessionId(Uuid::max()))] {
            let place = FoundPlace { created_at, id };
            assert_eq!(FoundPlace::try_from(&place.cursor()), Ok(place));
        }
        let start = created_at.timestamp_micros().to_be_bytes();
        for rest in ["", "d", "dx", "x1", "s1"] {
            let cursor = Cursor::new([&start[..], rest.as_bytes()].concat());
            assert_eq!(FoundPlace::try_from(&cursor), Err(InvalidCursor), "{rest}");
        }
        assert_eq!(FoundPlace::try_from(&Cursor::default()), Err(InvalidCursor));
    }

    proptest! {
        /// Databases are asked with words between quotes, and keep them with spaces between.
        #[test]
        fn no_word_has_what_separates_words(text in "\\PC*") {
            if let Ok(words) = Words::asked(&text) {
                for word in words.iter() {
                    prop_assert!(!word.is_empty() && word.chars().count() <= MAX_WORD_CHARS);
                    prop_assert!(
                        word.chars().all(|c| c.is_ascii_alphanumeric() || !c.is_ascii()),
                        "{word:?}"
                    );
                    prop_assert!(!word.contains(char::is_whitespace));
                }
            }
        }

        /// Else what is stored would not be found by its own words.
        #[test]
        fn words_of_words_are_the_same(text in "[a-zA-Z0-9äÖßΣ注 .:-]{0,64}") {
            if let Ok(words) = Words::asked(&text) {
                prop_assert_eq!(Words::asked(&words.spaced()), Ok(words));
            }
        }
    }
}
