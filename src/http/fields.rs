//! Reads an object's members strictly and collects everything that is wrong with them, so that a
//! caller learns all of it at once. Each error has a JSON pointer (RFC 6901).

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Serialize;
use utoipa::ToSchema;

use super::node::{Member, Node};
use crate::domain::pointer_to;

/// The most errors that one answer names.
const MAX_ERRORS: usize = 100;
/// So many names are told apart sooner by comparing each with each than by hashing them.
const FEW_MEMBERS: usize = 8;

/// One thing that is wrong in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FieldError {
    /// A JSON pointer into the body, or the name of a parameter or header.
    pub(super) pointer: String,
    /// What is wrong, and what is allowed.
    pub(super) detail: String,
    /// With `precondition_failed`: the ETag of the record that is there, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) etag: Option<String>,
}

impl FieldError {
    pub(super) fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into(), etag: None }
    }
}

/// What is wrong with a value; pointers are relative to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Invalid(Vec<FieldError>);

impl Invalid {
    pub(super) fn push(&mut self, pointer: String, detail: impl Into<String>) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(FieldError::new(pointer, detail));
        }
    }

    /// Takes over the errors of the value at `pointer`.
    pub(super) fn extend(&mut self, pointer: &str, inner: Self) {
        for error in inner.0 {
            self.push(format!("{pointer}{}", error.pointer), error.detail);
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_errors(self) -> Vec<FieldError> {
        self.0
    }
}

impl<T: Into<String>> From<T> for Invalid {
    fn from(detail: T) -> Self {
        Self(vec![FieldError::new("", detail)])
    }
}

/// An object's members that nobody has read yet.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    members: Vec<Member<'a>>,
    invalid: Invalid,
}

impl<'a> Fields<'a> {
    /// # Errors
    /// When the value is not an object.
    pub(super) fn of(node: Node<'a>) -> Result<Self, Invalid> {
        match node {
            Node::Object(members) => {
                let mut invalid = Invalid::default();
                let members = without_duplicates(members, &mut invalid);
                Ok(Self { members, invalid })
            }
            other => Err(mistyped("an object", &other)),
        }
    }

    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Node<'a>) -> Result<T, Invalid>,
    ) -> Option<T> {
        let value = self.take(name);
        if value.is_none() {
            self.invalid.push(pointer_to(name), "is missing");
        }
        self.read(name, value?, read)
    }

    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Node<'a>) -> Result<T, Invalid>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.read(name, value, read)
    }

    /// Refuses the object for a reason that no single value shows.
    pub(super) fn refuse(&mut self, pointer: &str, detail: &str) {
        self.invalid.push(pointer.to_owned(), detail);
    }

    /// Builds the input if nothing was wrong. `build` answers `None` only when something
    /// required could not be read.
    ///
    /// # Errors
    /// Everything that was wrong, unread members included.
    pub(super) fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, Invalid> {
        let invalid = self.into_invalid();
        if invalid.is_empty() {
            build().ok_or_else(|| "is not complete".into())
        } else {
            Err(invalid)
        }
    }

    /// Everything that was wrong, unread members included.
    pub(super) fn into_invalid(mut self) -> Invalid {
        for (name, _) in &self.members {
            self.invalid.push(pointer_to(name), "is not a known field");
        }
        self.invalid
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(known, _)| known == name)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn take(&mut self, name: &str) -> Option<Node<'a>> {
        let at = self.members.iter().position(|(known, _)| known == name)?;
        Some(self.members.swap_remove(at).1)
    }

    fn read<T>(
        &mut self,
        name: &str,
        value: Node<'a>,
        read: impl FnOnce(Node<'a>) -> Result<T, Invalid>,
    ) -> Option<T> {
        read(value).map_err(|inner| self.invalid.extend(&pointer_to(name), inner)).ok()
    }
}

/// The first of each name; the others are errors.
pub(super) fn without_duplicates<'a>(
    members: Vec<Member<'a>>,
    invalid: &mut Invalid,
) -> Vec<Member<'a>> {
    if members.len() <= FEW_MEMBERS && all_differ(&members) {
        return members;
    }
    let mut seen: HashSet<Cow<'a, str>> = HashSet::with_capacity(members.len());
    let mut kept = Vec::with_capacity(members.len());
    for (name, value) in members {
        if seen.insert(name.clone()) {
            kept.push((name, value));
        } else {
            invalid.push(pointer_to(&name), "is there more than once");
        }
    }
    kept
}

/// Compares each with each.
fn all_differ(members: &[Member<'_>]) -> bool {
    let mut rest = members;
    while let Some(((name, _), others)) = rest.split_first() {
        if others.iter().any(|(other, _)| other == name) {
            return false;
        }
        rest = others;
    }
    true
}

pub(super) fn mistyped(expected: &str, found: &Node<'_>) -> Invalid {
    let advice = if *found == Node::Null { "; leave it out to say nothing" } else { "" };
    format!("must be {expected}, not {}{advice}", found.kind()).into()
}

/// Reads a string with `parse`.
pub(super) fn text<T, E: Display>(
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> impl FnOnce(Node<'_>) -> Result<T, Invalid> {
    move |node| match node {
        Node::Text(text) => parse(&text).map_err(|error| error.to_string().into()),
        other => Err(mistyped("a string", &other)),
    }
}

/// Reads a whole number within bounds.
pub(super) fn whole<T>(bounds: RangeInclusive<T>) -> impl FnOnce(Node<'_>) -> Result<T, Invalid>
where
    T: TryFrom<u64> + PartialOrd + Display,
{
    move |node| match node {
        Node::Number(number) => {
            within(number.as_u64().and_then(|n| T::try_from(n).ok()), &bounds).map_err(Into::into)
        }
        other => Err(mistyped("a whole number", &other)),
    }
}

/// Parses a parameter's whole number within bounds: digits alone.
pub(super) fn whole_text<T>(bounds: RangeInclusive<T>) -> impl FnOnce(&str) -> Result<T, String>
where
    T: TryFrom<u64> + PartialOrd + Display,
{
    move |text| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse::<u64>().ok() } else { None };
        within(number.and_then(|n| T::try_from(n).ok()), &bounds)
    }
}

fn within<T: PartialOrd + Display>(
    number: Option<T>,
    bounds: &RangeInclusive<T>,
) -> Result<T, String> {
    number.filter(|number| bounds.contains(number)).ok_or_else(|| {
        format!("must be a whole number from {} to {}", bounds.start(), bounds.end())
    })
}

/// Reads `true` or `false`.
pub(super) fn flag(node: Node<'_>) -> Result<bool, Invalid> {
    match node {
        Node::Bool(flag) => Ok(flag),
        other => Err(mistyped("true or false", &other)),
    }
}

/// Reads an array of as many items as `count` allows, each with `read`.
pub(super) fn array<'a, T>(
    count: RangeInclusive<usize>,
    mut read: impl FnMut(Node<'a>) -> Result<T, Invalid>,
) -> impl FnOnce(Node<'a>) -> Result<Vec<T>, Invalid> {
    move |node| {
        let items = match node {
            Node::Array(items) => items,
            other => return Err(mistyped("an array", &other)),
        };
        if !count.contains(&items.len()) {
            let (least, most) = (count.start(), count.end());
            return Err(format!("must have {least} to {most} items, not {}", items.len()).into());
        }
        let mut invalid = Invalid::default();
        let mut read_items = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match read(item) {
                Ok(item) => read_items.push(item),
                Err(inner) => invalid.extend(&format!("/{index}"), inner),
            }
        }
        if invalid.is_empty() { Ok(read_items) } else { Err(invalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Nonce;

    fn fields(json: &str) -> Fields<'_> {
        Fields::of(Node::parse(json.as_bytes()).unwrap()).unwrap()
    }

    fn pointers(invalid: &Invalid) -> Vec<&str> {
        invalid.0.iter().map(|error| error.pointer.as_str()).collect()
    }

    #[test]
    fn builds_from_what_is_right() {
        let mut fields = fields(r#"{"nonce":"n","count":3}"#);
        let nonce = fields.required("nonce", text(Nonce::parse));
        let count = fields.optional("count", whole(1..=3_u32));
        let other = fields.optional("other", whole(1..=3_u32));
        let built = fields.finish(|| Some((nonce?, count, other))).unwrap();
        assert_eq!(built, (Nonce::parse("n").unwrap(), Some(3), None));
    }

    #[test]
    fn names_everything_that_is_wrong_at_once() {
        let mut fields = fields(
            r#"{"nonce":7,"n":0,"twice":1,"a/b~c":1,"twice":2,"items":[1,"x",9],"opt":null}"#,
        );
        let nonce = fields.required("nonce", text(Nonce::parse));
        let absent = fields.required("absent", text(Nonce::parse));
        let _ = fields.optional("n", whole(1..=3_u32));
        let _ = fields.optional("twice", whole(1..=3_u32));
        let _ = fields.optional("opt", whole(1..=3_u32));
        let _ = fields.required("items", array(1..=3, |node| whole(1..=3_u32)(node)));
        let errors = fields.finish(|| Some((nonce?, absent?))).unwrap_err();
        assert_eq!(
            pointers(&errors),
            ["/twice", "/nonce", "/absent", "/n", "/opt", "/items/1", "/items/2", "/a~1b~0c"]
        );
    }

    #[test]
    fn a_name_that_is_there_twice_is_named_among_few_and_among_many() {
        for others in [0, 1, FEW_MEMBERS - 2, FEW_MEMBERS - 1, 100] {
            let mut members: Vec<Member<'_>> = vec![("first".into(), Node::Null)];
            members.extend((0..others).map(|number| (number.to_string().into(), Node::Null)));
            let mut invalid = Invalid::default();
            assert_eq!(without_duplicates(members.clone(), &mut invalid), members);
            assert!(invalid.is_empty());

            let mut twice = members.clone();
            twice.push(("first".into(), Node::Bool(true)));
            assert_eq!(without_duplicates(twice, &mut invalid), members);
            assert_eq!(pointers(&invalid), ["/first"]);
        }
    }

    #[test]
    fn a_whole_number_is_neither_negative_nor_broken_nor_a_string() {
        for json in ["-1", "1.0", "1e0", "4", "\"1\"", "true", "[]", "18446744073709551616"] {
            assert!(whole(1..=3_u32)(Node::parse(json.as_bytes()).unwrap()).is_err(), "{json}");
        }
        for text in ["", "+1", " 1", "1.0", "4", "0x1", "99999999999999999999"] {
            assert!(whole_text(1..=3_u32)(text).is_err(), "{text:?}");
        }
        assert_eq!(whole_text(1..=3_u32)("3"), Ok(3));
    }

    #[test]
    fn an_answer_names_a_hundred_errors_at_most() {
        let json = format!("[{}]", vec!["0"; 1000].join(","));
        let node = Node::parse(json.as_bytes()).unwrap();
        let errors = array(1..=1000, |node| whole(1..=3_u32)(node))(node).unwrap_err();
        assert_eq!(errors.0.len(), MAX_ERRORS);
    }

    #[test]
    fn only_an_object_has_fields() {
        for json in ["null", "[]", "\"x\"", "1", "true"] {
            assert!(Fields::of(Node::parse(json.as_bytes()).unwrap()).is_err(), "{json}");
        }
    }
}
