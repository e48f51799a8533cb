//! Reads `Signature-Input`, `Signature` and `Content-Digest`: structured fields (RFC 8941) of
//! bounded size. It never panics, whatever the bytes, and refuses what the grammar tolerates but
//! a signature should not have: a label or a parameter that is given twice.

use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef, Parser, Version};

use super::input::{Identifier, Parameters, Value};
use super::request::Request;

/// The longest field that is read, in bytes, its lines combined.
pub const MAX_FIELD_LEN: usize = 8_192;
/// The most signatures that one request may carry.
pub const MAX_SIGNATURES: usize = 8;
/// The most components that one signature may cover.
pub const MAX_COMPONENTS: usize = 64;

/// The most parameters that one signature, or one component, may have.
pub const MAX_PARAMETERS: usize = 16;

/// Why the fields of a signature cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the request has a {sent} field but no {missing}: send both, or none")]
    Alone { sent: &'static str, missing: &'static str },
    #[error("the {0} field is longer than {MAX_FIELD_LEN} bytes")]
    TooLong(&'static str),
    #[error("the {field} field is not the structured field that it has to be: {problem}")]
    Field { field: &'static str, problem: String },
    #[error("the signature {0:?} is in only one of Signature-Input and Signature")]
    Unpaired(String),
}

/// What the visitors refuse.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the label {0:?} is given twice")]
    LabelTwice(String),
    #[error("the parameter {0:?} is given twice")]
    ParameterTwice(String),
    #[error("there are more than {MAX_SIGNATURES} members")]
    TooManyMembers,
    #[error("more than {MAX_COMPONENTS} components are covered")]
    TooManyComponents,
    #[error("a signature or a component has more than {MAX_PARAMETERS} parameters")]
    TooManyParameters,
    #[error("a member must be a list in parentheses, such as (\"@method\" \"@path\")")]
    NotAList,
    #[error("a member must be a byte sequence, such as :AQID:")]
    NotBytes,
    #[error("a component must be a string, such as \"@method\"")]
    NotAString,
    #[error("the parameter {0:?} must be {1}")]
    ParameterType(&'static str, &'static str),
}

/// One signature of a request: what `Signature-Input` says of it, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawSignature {
    pub label: String,
    pub covered: Vec<Identifier>,
    pub parameters: Parameters,
    /// The member's value exactly as received: the value of `@signature-params`.
    pub verbatim: String,
    pub signature: Vec<u8>,
}

/// The signatures of a request, in the order of `Signature-Input`; `None` when it is not signed.
pub(super) fn signatures(request: &Request<'_>) -> Result<Option<Vec<RawSignature>>, Malformed> {
    const INPUT: &str = "Signature-Input";
    const SIGNATURE: &str = "Signature";
    let (input, signature) = match (request.field(INPUT), request.field(SIGNATURE)) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(Malformed::Alone { sent: INPUT, missing: SIGNATURE }),
        (None, Some(_)) => return Err(Malformed::Alone { sent: SIGNATURE, missing: INPUT }),
        (Some(input), Some(signature)) => (input, signature),
    };
    let mut signatures = signature_input(INPUT, &input)?;
    let mut bytes = byte_sequences(SIGNATURE, &signature)?;
    for signature in &mut signatures {
        let at = bytes.iter().position(|(label, _)| *label == signature.label);
        let at = at.ok_or_else(|| Malformed::Unpaired(signature.label.clone()))?;
        signature.signature = bytes.swap_remove(at).1;
    }
    match bytes.pop() {
        Some((label, _)) => Err(Malformed::Unpaired(label)),
        None => Ok(Some(signatures)),
    }
}

/// A dictionary of byte sequences, in order.
pub(super) fn byte_sequences(
    field: &'static str,
    value: &[u8],
) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
    parser(field, value)?
        .parse_dictionary_with_visitor(ByteSequences(Vec::new()))
        .map_err(|error| Malformed::Field { field, problem: error.to_string() })
}

fn signature_input(field: &'static str, value: &[u8]) -> Result<Vec<RawSignature>, Malformed> {
    let mut signatures = parser(field, value)?
        .parse_dictionary_with_visitor(Inputs(Vec::new()))
        .map_err(|error| Malformed::Field { field, problem: error.to_string() })?;
    for (signature, verbatim) in signatures.iter_mut().zip(member_values(value)) {
        signature.verbatim = verbatim;
    }
    Ok(signatures)
}

/// Both fields follow RFC 8941: without the later display strings, a quote always is a string's.
fn parser<'a>(field: &'static str, value: &'a [u8]) -> Result<Parser<'a>, Malformed> {
    if value.len() > MAX_FIELD_LEN {
        return Err(Malformed::TooLong(field));
    }
    Ok(Parser::new(value).with_version(Version::Rfc8941))
}

/// The text after each member's `=` in a dictionary that has been parsed: it is well-formed, so
/// that a comma outside of a string parts members, and nothing else does.
fn member_values(dictionary: &[u8]) -> impl Iterator<Item = String> {
    let (mut in_string, mut escaped) = (false, false);
    dictionary
        .split(move |&byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ => {}
            }
            byte == b',' && !in_string
        })
        .map(|member| {
            let value =
                member.iter().position(|&byte| byte == b'=').map(|at| member.split_at(at).1);
            let value =
                value.and_then(<[u8]>::split_first).map_or(b"".as_slice(), |(_, text)| text);
            String::from_utf8_lossy(value.trim_ascii()).into_owned()
        })
}

/// `label=:bytes:, …`
struct ByteSequences(Vec<(String, Vec<u8>)>);

impl<'de> DictionaryVisitor<'de> for ByteSequences {
    type Out = Vec<(String, Vec<u8>)>;
    type Error = Problem;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Problem> {
        if self.0.iter().any(|(label, _)| label == key.as_str()) {
            return Err(Problem::LabelTwice(key.as_str().to_owned()));
        }
        if self.0.len() == MAX_SIGNATURES {
            return Err(Problem::TooManyMembers);
        }
        Ok(ByteSequence { members: &mut self.0, key: key.as_str() })
    }

    fn finish(self) -> Result<Self::Out, Problem> {
        Ok(self.0)
    }
}

struct ByteSequence<'a, 'de> {
    members: &'a mut Vec<(String, Vec<u8>)>,
    key: &'de str,
}

impl<'de> EntryVisitor<'de> for ByteSequence<'_, 'de> {
    type Error = Problem;

    fn item(self) -> Result<impl ItemVisitor<'de>, Problem> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Problem> {
        Err::<Ignored, _>(Problem::NotBytes)
    }
}

impl<'de> ItemVisitor<'de> for ByteSequence<'_, 'de> {
    type Out = ();
    type Error = Problem;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Problem> {
        let BareItemFromInput::ByteSequence(bytes) = item else { return Err(Problem::NotBytes) };
        self.members.push((self.key.to_owned(), bytes));
        Ok(Ignored)
    }
}

/// `label=("component" …);parameters, …`
struct Inputs(Vec<RawSignature>);

impl<'de> DictionaryVisitor<'de> for Inputs {
    type Out = Vec<RawSignature>;
    type Error = Problem;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Problem> {
        if self.0.iter().any(|signature| signature.label == key.as_str()) {
            return Err(Problem::LabelTwice(key.as_str().to_owned()));
        }
        if self.0.len() == MAX_SIGNATURES {
            return Err(Problem::TooManyMembers);
        }
        Ok(Input {
            signatures: &mut self.0,
            read: RawSignature::labelled(key.as_str()),
            seen: vec![],
        })
    }

    fn finish(self) -> Result<Self::Out, Problem> {
        Ok(self.0)
    }
}

impl RawSignature {
    fn labelled(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            covered: Vec::new(),
            parameters: Parameters::default(),
            verbatim: String::new(),
            signature: Vec::new(),
        }
    }
}

struct Input<'a, 'de> {
    signatures: &'a mut Vec<RawSignature>,
    read: RawSignature,
    /// The parameters so far.
    seen: Vec<&'de str>,
}

impl<'de> EntryVisitor<'de> for Input<'_, 'de> {
    type Error = Problem;

    fn item(self) -> Result<impl ItemVisitor<'de>, Problem> {
        Err::<Ignored, _>(Problem::NotAList)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Problem> {
        Ok(self)
    }
}

impl<'de> InnerListVisitor<'de> for Input<'_, 'de> {
    type Error = Problem;

    fn item(&mut self) -> Result<impl ItemVisitor<'de>, Problem> {
        if self.read.covered.len() == MAX_COMPONENTS {
            return Err(Problem::TooManyComponents);
        }
        Ok(Component(&mut self.read.covered))
    }

    fn finish(self) -> Result<impl ParameterVisitor<'de>, Problem> {
        Ok(self)
    }
}

impl<'de> ParameterVisitor<'de> for Input<'_, 'de> {
    type Out = ();
    type Error = Problem;

    fn parameter(
        &mut self,
        key: &'de KeyRef,
        value: BareItemFromInput<'de>,
    ) -> Result<(), Problem> {
        let key = key.as_str();
        if self.seen.contains(&key) {
            return Err(Problem::ParameterTwice(key.to_owned()));
        }
        if self.seen.len() == MAX_PARAMETERS {
            return Err(Problem::TooManyParameters);
        }
        self.seen.push(key);
        let parameters = &mut self.read.parameters;
        match key {
            "created" => parameters.created = Some(integer("created", &value)?),
            "expires" => parameters.expires = Some(integer("expires", &value)?),
            "nonce" => parameters.nonce = Some(string("nonce", &value)?),
            "alg" => parameters.alg = Some(string("alg", &value)?),
            "keyid" => parameters.keyid = Some(string("keyid", &value)?),
            "tag" => parameters.tag = Some(string("tag", &value)?),
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Problem> {
        self.signatures.push(self.read);
        Ok(())
    }
}

fn integer(key: &'static str, value: &BareItemFromInput<'_>) -> Result<i64, Problem> {
    value.as_integer().map(i64::from).ok_or(Problem::ParameterType(key, "an integer"))
}

fn string(key: &'static str, value: &BareItemFromInput<'_>) -> Result<String, Problem> {
    let text = value.as_string().ok_or(Problem::ParameterType(key, "a string"))?;
    Ok(text.as_str().to_owned())
}

struct Component<'a>(&'a mut Vec<Identifier>);

impl<'de> ItemVisitor<'de> for Component<'_> {
    type Out = ();
    type Error = Problem;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Problem> {
        let name = item.as_string().ok_or(Problem::NotAString)?.as_str().to_owned();
        let read = Identifier { name, parameters: Vec::new() };
        Ok(ComponentParameters { covered: self.0, read })
    }
}

struct ComponentParameters<'a> {
    covered: &'a mut Vec<Identifier>,
    read: Identifier,
}

impl<'de> ParameterVisitor<'de> for ComponentParameters<'_> {
    type Out = ();
    type Error = Problem;

    fn parameter(
        &mut self,
        key: &'de KeyRef,
        value: BareItemFromInput<'de>,
    ) -> Result<(), Problem> {
        let key = key.as_str();
        if self.read.parameters.iter().any(|(seen, _)| seen == key) {
            return Err(Problem::ParameterTwice(key.to_owned()));
        }
        if self.read.parameters.len() == MAX_PARAMETERS {
            return Err(Problem::TooManyParameters);
        }
        let value = match value {
            BareItemFromInput::Boolean(true) => Value::True,
            BareItemFromInput::String(text) => Value::Text(text.as_str().to_owned()),
            _ => Value::Other,
        };
        self.read.parameters.push((key.to_owned(), value));
        Ok(())
    }

    fn finish(self) -> Result<(), Problem> {
        self.covered.push(self.read);
        Ok(())
    }
}
