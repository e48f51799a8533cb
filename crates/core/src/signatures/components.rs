//! The covered components of a request and their values (RFC 9421, section 2). A component that
//! we do not know, that has no meaning in a request, or whose value is ambiguous is refused,
//! never guessed.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sfv::{Dictionary, FieldType, Item, List, Parser};

use super::input::{Identifier, Value, quoted};
use super::request::{Request, unfold};
use super::unique::EachOnce;

/// What of a request is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Component {
    Method,
    TargetUri,
    Authority,
    Scheme,
    RequestTarget,
    Path,
    Query,
    /// The one query parameter of this name, which is percent-encoded as section 2.2.8 says.
    QueryParam(String),
    /// A field, by its name in lower case.
    Field(String, Form),
}

/// How the value of a field is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// As received, lines combined.
    Plain,
    /// `;sf`: serialized strictly as a structured field (section 2.1.1).
    Structured,
    /// `;key="…"`: one member of a dictionary (section 2.1.2).
    Member(String),
    /// `;bs`: each line as a byte sequence (section 2.1.3).
    Binary,
}

/// A component with its identifier as it stands in the signature base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    pub component: Component,
    /// Such as `"@query-param";name="a"`.
    pub identifier: String,
}

/// Why a component cannot be covered in a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidComponent {
    #[error("{0} belongs to a response: it has no meaning in a request")]
    Response(String),
    #[error("{0} is signed in answers to a request, not in a request (;req)")]
    OfRequest(String),
    #[error("{0} is in the trailers, which are not signed here (;tr)")]
    Trailer(String),
    #[error("{0} is no component that we know: see RFC 9421, section 2.2")]
    Unknown(String),
    #[error("{0} has a parameter that does not belong to it, or lacks one that does")]
    Parameters(String),
    #[error("{0} is covered twice")]
    Twice(String),
}

/// Why a covered component has no value in a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoValue {
    #[error("the request has no such field")]
    NoField,
    #[error("its value is not a structured field of one meaning")]
    NotStructured,
    #[error("the request's field has no such member")]
    NoMember,
    #[error("the query has no such parameter")]
    NoParameter,
    #[error("the query has this parameter more than once: cover @query instead")]
    ParameterTwice,
    #[error("a parameter of the query is not UTF-8: cover @query instead")]
    ParameterNotUtf8,
    #[error("its value has characters other than visible ASCII, spaces and tabs")]
    NotAscii,
}

impl Component {
    /// The component that an identifier without parameters names, such as `@path` or
    /// `content-type`.
    ///
    /// # Errors
    /// [`InvalidComponent`] when it names none.
    pub fn named(name: &str) -> Result<Self, InvalidComponent> {
        Covered::read(&Identifier { name: name.to_owned(), parameters: Vec::new() })
            .map(|covered| covered.component)
    }

    /// The component of a whole field, as received. `name` is in lower case.
    #[must_use]
    pub fn field(name: &str) -> Self {
        Self::Field(name.to_owned(), Form::Plain)
    }

    /// Whether signing this component signs all of `wanted`: a field may be covered in any form
    /// but as a single member.
    pub(super) fn includes(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Field(name, form), Self::Field(wanted_name, Form::Plain)) => {
                name == wanted_name && !matches!(form, Form::Member(_))
            }
            _ => self == wanted,
        }
    }

    /// The value in the signature base: one line of ASCII.
    pub(super) fn value(&self, request: &Request<'_>) -> Result<String, NoValue> {
        let target = &request.target;
        let value = match self {
            Self::Method => request.method.to_owned(),
            Self::TargetUri => target.to_string(),
            Self::Authority => target.normalized_authority(),
            Self::Scheme => target.scheme().to_owned(),
            Self::RequestTarget => target.path_and_query(),
            Self::Path => target.path().to_owned(),
            Self::Query => format!("?{}", target.query().unwrap_or_default()),
            Self::QueryParam(name) => query_parameter(target.query().unwrap_or_default(), name)?,
            Self::Field(name, form) => field_value(request, name, form)?,
        };
        // Line feeds would let one component's value pass for another component.
        if value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
            Ok(value)
        } else {
            Err(NoValue::NotAscii)
        }
    }
}

impl std::fmt::Display for Component {
    /// The name, without parameters.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Method => "@method",
            Self::TargetUri => "@target-uri",
            Self::Authority => "@authority",
            Self::Scheme => "@scheme",
            Self::RequestTarget => "@request-target",
            Self::Path => "@path",
            Self::Query => "@query",
            Self::QueryParam(_) => "@query-param",
            Self::Field(name, _) => name,
        })
    }
}

impl Covered {
    /// A component without parameters.
    pub(super) fn plain(component: Component) -> Self {
        Self { identifier: quoted(&component.to_string()), component }
    }

    /// # Errors
    /// [`InvalidComponent`] when the identifier names nothing that a request has.
    pub(super) fn read(identifier: &Identifier) -> Result<Self, InvalidComponent> {
        let text = identifier.serialize();
        let has = |key: &str| identifier.parameters.iter().any(|(name, _)| name == key);
        if identifier.name == "@status" {
            return Err(InvalidComponent::Response(text));
        }
        if has("req") {
            return Err(InvalidComponent::OfRequest(text));
        }
        if has("tr") {
            return Err(InvalidComponent::Trailer(text));
        }
        let component = if identifier.name.starts_with('@') {
            derived(identifier, &text)?
        } else if is_field_name(&identifier.name) {
            let form = form(&identifier.parameters);
            let form = form.ok_or_else(|| InvalidComponent::Parameters(text.clone()))?;
            Component::Field(identifier.name.clone(), form)
        } else {
            return Err(InvalidComponent::Unknown(text));
        };
        Ok(Self { component, identifier: text })
    }

    /// All identifiers of a signature.
    ///
    /// # Errors
    /// [`InvalidComponent`] when one names nothing that a request has, or two name the same.
    pub(super) fn read_all(identifiers: &[Identifier]) -> Result<Vec<Self>, InvalidComponent> {
        let mut all: Vec<Self> = Vec::with_capacity(identifiers.len());
        for identifier in identifiers {
            let read = Self::read(identifier)?;
            // By meaning, so that the order of parameters makes no difference.
            if all.iter().any(|earlier| earlier.component == read.component) {
                return Err(InvalidComponent::Twice(read.identifier));
            }
            all.push(read);
        }
        Ok(all)
    }
}

fn derived(identifier: &Identifier, text: &str) -> Result<Component, InvalidComponent> {
    let component = match identifier.name.as_str() {
        "@method" => Component::Method,
        "@target-uri" => Component::TargetUri,
        "@authority" => Component::Authority,
        "@scheme" => Component::Scheme,
        "@request-target" => Component::RequestTarget,
        "@path" => Component::Path,
        "@query" => Component::Query,
        "@query-param" => {
            return match identifier.parameters.as_slice() {
                [(key, Value::Text(name))] if key == "name" => {
                    Ok(Component::QueryParam(name.clone()))
                }
                _ => Err(InvalidComponent::Parameters(text.to_owned())),
            };
        }
        _ => return Err(InvalidComponent::Unknown(text.to_owned())),
    };
    if identifier.parameters.is_empty() {
        Ok(component)
    } else {
        Err(InvalidComponent::Parameters(text.to_owned()))
    }
}

/// A field's name in an identifier: a token (RFC 9110, section 5.1) in lower case.
fn is_field_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
        })
}

fn form(parameters: &[(String, Value)]) -> Option<Form> {
    let mut form = Form::Plain;
    for (key, value) in parameters {
        form = match (key.as_str(), value, form) {
            ("sf", Value::True, Form::Plain) => Form::Structured,
            // A member is serialized strictly anyway.
            ("sf", Value::True, form @ Form::Member(_)) => form,
            ("key", Value::Text(key), Form::Plain | Form::Structured) => Form::Member(key.clone()),
            ("bs", Value::True, Form::Plain) => Form::Binary,
            _ => return None,
        };
    }
    Some(form)
}

fn field_value(request: &Request<'_>, name: &str, form: &Form) -> Result<String, NoValue> {
    if *form == Form::Binary {
        let lines: Vec<_> = request
            .lines(name)
            .map(|line| format!(":{}:", STANDARD.encode(unfold(line))))
            .collect();
        return if lines.is_empty() { Err(NoValue::NoField) } else { Ok(lines.join(", ")) };
    }
    let combined = request.field(name).ok_or(NoValue::NoField)?;
    match form {
        Form::Plain | Form::Binary => String::from_utf8(combined).map_err(|_| NoValue::NotAscii),
        Form::Structured => structured(&combined).ok_or(NoValue::NotStructured),
        Form::Member(key) => {
            let dictionary = dictionary(&combined).ok_or(NoValue::NotStructured)?;
            let member = dictionary.get(key.as_str()).ok_or(NoValue::NoMember)?;
            // A list of one member is serialized as that member.
            vec![member.clone()].serialize().ok_or(NoValue::NotStructured)
        }
    }
}

/// The strict serialization of a structured field. Which of the three types a field is, its
/// definition says; when the value could be of several, they must agree on the outcome.
fn structured(value: &[u8]) -> Option<String> {
    let dictionary = dictionary(value);
    // Two equal members are two of a list, but one of a dictionary.
    if dictionary.is_none() && Parser::new(value).parse::<Dictionary>().is_ok() {
        return None;
    }
    let mut serialized = [
        dictionary.map(|dictionary| dictionary.serialize().unwrap_or_default()),
        list(value).map(|list| list.serialize().unwrap_or_default()),
        item(value).map(|item| item.serialize()),
    ]
    .into_iter()
    .flatten();
    let first = serialized.next()?;
    serialized.all(|other| other == first).then_some(first)
}

fn dictionary(value: &[u8]) -> Option<Dictionary> {
    Parser::new(value).parse_dictionary_with_visitor(EachOnce::default()).ok()?;
    Parser::new(value).parse().ok()
}

fn list(value: &[u8]) -> Option<List> {
    Parser::new(value).parse_list_with_visitor(EachOnce::default()).ok()?;
    Parser::new(value).parse().ok()
}

fn item(value: &[u8]) -> Option<Item> {
    Parser::new(value).parse_item_with_visitor(EachOnce::default()).ok()?;
    Parser::new(value).parse().ok()
}

/// What the form encoding of HTML leaves as it is, as section 2.2.8 wants it, spaces apart.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');

/// The value of the one parameter whose name, decoded and encoded again, is `name`.
fn query_parameter(query: &str, name: &str) -> Result<String, NoValue> {
    let mut found = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if utf8_percent_encode(&form_decoded(key)?, FORM).to_string() == name
            && found.replace(value).is_some()
        {
            return Err(NoValue::ParameterTwice);
        }
    }
    let value = form_decoded(found.ok_or(NoValue::NoParameter)?)?;
    Ok(utf8_percent_encode(&value, FORM).to_string())
}

/// Strict: a lossy decoding would give different values the same text.
fn form_decoded(text: &str) -> Result<String, NoValue> {
    let text: Cow<'_, str> =
        if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let decoded = percent_decode_str(&text).decode_utf8().map_err(|_| NoValue::ParameterNotUtf8)?;
    Ok(decoded.into_owned())
}
