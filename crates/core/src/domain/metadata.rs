//! A session's metadata: any JSON object, read as it was sent, whichever database keeps it.
//!
//! PostgreSQL's jsonb writes an object anew: its members in an order of its own, its numbers
//! without exponents. That form is made here, once, and is what both databases hold and give
//! back; what has no such form is refused, and nothing is ever rounded. The text is never made a
//! tree of values, which would take up to a hundred times its memory.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

/// The most errors that are told of one text.
const MAX_ERRORS: usize = 100;
/// The deepest nesting. Reading is recursive.
const MAX_DEPTH: usize = 127;

/// A JSON object in its one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata(Box<str>);

/// One thing that keeps a JSON text from being metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidMetadata {
    /// A JSON pointer into the text (RFC 6901).
    pub pointer: String,
    pub detail: String,
}

impl Metadata {
    /// The most bytes of what a caller sends, in the one form.
    pub const MAX_LEN: usize = 16 * 1024;

    /// # Errors
    /// Everything that is wrong with the text.
    pub fn parse(text: &RawValue) -> Result<Self, Vec<InvalidMetadata>> {
        let mut writer = Writer { written: String::new(), invalid: Vec::new() };
        if text.get().starts_with('{') {
            writer.value(text, &Path::Root, 1);
        } else {
            writer.refuse(&Path::Root, "must be an object");
        }
        let Writer { written, mut invalid } = writer;
        if written.len() > Self::MAX_LEN {
            let detail = format!(
                "must be at most {} bytes as compact JSON, its numbers without exponents",
                Self::MAX_LEN
            );
            invalid.push(InvalidMetadata { pointer: String::new(), detail });
        }
        if invalid.is_empty() { Ok(Self(written.into())) } else { Err(invalid) }
    }

    /// What a database kept. jsonb is written with spaces.
    #[must_use]
    pub fn kept(mut text: String) -> Self {
        let (mut in_string, mut escaped) = (false, false);
        text.retain(|character| {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            in_string || !character.is_ascii_whitespace()
        });
        Self(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Metadata {
    /// Of a session that was opened without any.
    fn default() -> Self {
        Self("{}".into())
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: &RawValue = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        text.serialize(serializer)
    }
}

/// Where in the text something is.
enum Path<'a> {
    Root,
    Member(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(object, name) => write!(f, "{object}{}", pointer_to(name)),
            Self::Item(array, index) => write!(f, "{array}/{index}"),
        }
    }
}

/// The pointer to a member of an object: `/` and its name, escaped (RFC 6901, section 3).
#[must_use]
pub fn pointer_to(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Writes a text in the one form.
struct Writer {
    written: String,
    invalid: Vec<InvalidMetadata>,
}

impl Writer {
    fn refuse(&mut self, at: &Path<'_>, detail: &str) {
        if self.invalid.len() < MAX_ERRORS {
            let (pointer, detail) = (at.to_string(), detail.to_owned());
            self.invalid.push(InvalidMetadata { pointer, detail });
        }
    }

    fn value(&mut self, text: &RawValue, at: &Path<'_>, depth: usize) {
        if depth > MAX_DEPTH {
            return self.refuse(at, "must not be nested so deeply");
        }
        // What is too long already is refused, however it goes on.
        if self.written.len() > Metadata::MAX_LEN {
            return;
        }
        match text.get().as_bytes().first() {
            Some(b'{') => self.object(text, at, depth),
            Some(b'[') => self.array(text, at, depth),
            Some(b'"') => match serde_json::from_str::<Text<'_>>(text.get()) {
                Ok(Text(string)) => self.string(&string, at),
                Err(_) => self.refuse(at, NOT_JSON),
            },
            Some(b't' | b'f' | b'n') => self.written.push_str(text.get()),
            _ => match without_exponent(text.get()) {
                Ok(number) => self.written.push_str(&number),
                Err(detail) => self.refuse(at, detail),
            },
        }
    }

    fn object(&mut self, text: &RawValue, at: &Path<'_>, depth: usize) {
        let Ok(Members(mut members)) = serde_json::from_str(text.get()) else {
            return self.refuse(at, NOT_JSON);
        };
        // In the order of jsonb.
        members.sort_by(|(Text(one), _), (Text(other), _)| {
            one.len().cmp(&other.len()).then_with(|| one.cmp(other))
        });
        self.written.push('{');
        let mut before: Option<&str> = None;
        for (Text(name), value) in &members {
            let here = Path::Member(at, name);
            if before == Some(name) {
                self.refuse(&here, "is there more than once");
                continue;
            }
            if before.replace(name).is_some() {
                self.written.push(',');
            }
            self.string(name, &here);
            self.written.push(':');
            self.value(value, &here, depth + 1);
        }
        self.written.push('}');
    }

    fn array(&mut self, text: &RawValue, at: &Path<'_>, depth: usize) {
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text.get()) else {
            return self.refuse(at, NOT_JSON);
        };
        self.written.push('[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.written.push(',');
            }
            self.value(item, &Path::Item(at, index), depth + 1);
        }
        self.written.push(']');
    }

    fn string(&mut self, text: &str, at: &Path<'_>) {
        if text.contains('\0') {
            // jsonb has none.
            return self.refuse(at, "must not contain the character U+0000");
        }
        match serde_json::to_string(text) {
            Ok(quoted) => self.written.push_str(&quoted),
            Err(_) => self.refuse(at, NOT_JSON),
        }
    }
}

const NOT_JSON: &str = "is not JSON";

/// A number of JSON as PostgreSQL's numeric writes it: all digits, and no exponent.
fn without_exponent(text: &str) -> Result<String, &'static str> {
    const TOO_MANY_DIGITS: &str = "has too many digits without its exponent; send it as a string";
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", text),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if !sign.is_empty() && digits.bytes().all(|digit| digit == b'0') {
        return Err("must not be a negative zero, whose sign is not kept; send 0");
    }
    let exponent: i32 = exponent.parse().map_err(|_| TOO_MANY_DIGITS)?;
    let shift = usize::try_from(exponent.unsigned_abs()).map_err(|_| TOO_MANY_DIGITS)?;
    if shift > Metadata::MAX_LEN {
        return Err(TOO_MANY_DIGITS);
    }
    let zeros = "0".repeat(shift);
    // Zeros at the side to which the point moves, so that it always stays among digits.
    let (padded, point) = if exponent < 0 {
        ([zeros.as_str(), &digits].concat(), whole.len())
    } else {
        ([&digits, zeros.as_str()].concat(), whole.len() + shift)
    };
    let (whole, rest) = padded.split_at_checked(point).ok_or(NOT_JSON)?;
    let fraction_len = match exponent {
        ..0 => fraction.len() + shift,
        _ => fraction.len().saturating_sub(shift),
    };
    let fraction = rest.get(..fraction_len).ok_or(NOT_JSON)?;
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let separator = if fraction.is_empty() { "" } else { "." };
    Ok([sign, whole, separator, fraction].concat())
}

/// A string, borrowed from the text where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An object's members as they stand in the text, names that are there twice included.
struct Members<'a>(Vec<(Text<'a>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        de::Deserializer::deserialize_map(deserializer, MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, Vec<String>> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let pointers = |invalid: Vec<InvalidMetadata>| -> Vec<String> {
            invalid.into_iter().map(|one| one.pointer).collect()
        };
        Metadata::parse(raw).map(|metadata| metadata.as_str().to_owned()).map_err(pointers)
    }

    #[test]
    fn an_object_is_kept_as_it_is() {
        for (text, kept) in [
            ("{}", "{}"),
            (
                r#" { "a" : [ 1 , null , { "b" : "ü \" { " } ] } "#,
                r#"{"a":[1,null,{"b":"ü \" { "}]}"#,
            ),
            // The order of jsonb: the shorter name first.
            (r#"{"bb":1,"a":true,"c":false,"":0}"#, r#"{"":0,"a":true,"c":false,"bb":1}"#),
            (r#"{"\u0061":"\u00e9\n\u001f\ud83d\ude00\/"}"#, "{\"a\":\"é\\n\\u001f😀/\"}"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(kept), "{text}");
        }
    }

    #[test]
    fn a_number_keeps_every_digit() {
        for (number, kept) in [
            ("0", "0"),
            ("1.10", "1.10"),
            ("-12.5", "-12.5"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
            ("1e2", "100"),
            ("1E+2", "100"),
            ("1.5e1", "15"),
            ("1.50e1", "15.0"),
            ("-1.5e-3", "-0.0015"),
            ("12e-1", "1.2"),
            ("120e-3", "0.120"),
            ("0e5", "0"),
            ("0e-2", "0.00"),
            ("1e22", "10000000000000000000000"),
            ("0.05e1", "0.5"),
            ("0.05e3", "50"),
        ] {
            let text = format!("{{\"n\":{number}}}");
            assert_eq!(parse(&text), Ok(format!("{{\"n\":{kept}}}")), "{number}");
        }
        let long = parse(r#"{"n":1e400}"#).unwrap();
        assert_eq!(long.len(), 401 + "{\"n\":}".len());
    }

    #[test]
    fn what_cannot_be_kept_is_refused_where_it_is() {
        for (text, pointers) in [
            (r#"{"a":[1,-0],"b":-0.0,"c":-0e5}"#, &["/a/1", "/b", "/c"][..]),
            (r#"{"a":1e99999,"b":1e-99999,"c":1e99999999999999}"#, &["/a", "/b", "/c"]),
            (r#"{"a":[{"x":1,"x":2},"\u0000"],"b":1,"\u0062":2}"#, &["/a/0/x", "/a/1", "/b"]),
            (r#"{"n\u0000/~":1}"#, &["/n\u{0}~1~0"]),
            ("[]", &[""]),
            ("null", &[""]),
            (r#"{"a":"\ud800"}"#, &["/a"]),
        ] {
            assert_eq!(parse(text).unwrap_err(), pointers, "{text}");
        }
        let nested = |depth: usize| format!("{}0{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(parse(&nested(MAX_DEPTH - 1)).is_ok());
        assert_eq!(parse(&nested(MAX_DEPTH)).unwrap_err(), ["/a".repeat(MAX_DEPTH)]);
    }

    #[test]
    fn it_is_as_long_as_it_is_kept() {
        let text = |n: usize| format!(r#" {{ "a" : "{}" }} "#, "x".repeat(n));
        assert!(parse(&text(Metadata::MAX_LEN - 8)).is_ok());
        assert_eq!(parse(&text(Metadata::MAX_LEN - 7)).unwrap_err(), [""]);
        // Short to send, and 309 digits each.
        let numbers = |n: usize| format!("{{\"a\":[{}]}}", vec!["1e308"; n].join(","));
        assert!(parse(&numbers(52)).is_ok());
        assert_eq!(parse(&numbers(53)).unwrap_err(), [""]);
        assert_eq!(parse(&numbers(40_000)).unwrap_err(), [""]);
        let errors = format!("{{\"a\":[{}]}}", vec!["-0"; 1000].join(","));
        assert_eq!(parse(&errors).unwrap_err().len(), MAX_ERRORS);
    }

    #[test]
    fn what_a_database_kept_is_read_without_its_spaces() {
        let kept = Metadata::kept(r#"{"a b": [1, 2], "c\"": " \\"}"#.to_owned());
        assert_eq!(kept.as_str(), r#"{"a b":[1,2],"c\"":" \\"}"#);
        assert_eq!(serde_json::to_string(&kept).unwrap(), kept.as_str());
    }
}
