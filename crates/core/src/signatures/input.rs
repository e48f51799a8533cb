//! What a member of `Signature-Input` states, and how that is written as a structured field
//! (RFC 8941): identifiers of components, and parameters of the signature.

use std::fmt::Write as _;

/// A component identifier (RFC 9421, section 2): a name, and parameters in the order received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identifier {
    pub name: String,
    pub parameters: Vec<(String, Value)>,
}

/// The value of a component's parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    True,
    Text(String),
    /// No parameter that we know has a value of another type.
    Other,
}

/// The parameters of a signature (RFC 9421, section 2.3). Unknown ones stay in the verbatim
/// text, and so in the signature base.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub created: Option<i64>,
    pub expires: Option<i64>,
    pub nonce: Option<String>,
    pub alg: Option<String>,
    pub keyid: Option<String>,
    pub tag: Option<String>,
}

impl Identifier {
    /// The identifier as a structured field, such as `"@query-param";name="a"`.
    pub(super) fn serialize(&self) -> String {
        let mut text = quoted(&self.name);
        for (key, value) in &self.parameters {
            text.push(';');
            text.push_str(key);
            if let Value::Text(value) = value {
                text.push('=');
                text.push_str(&quoted(value));
            }
        }
        text
    }
}

/// A string as a structured field (RFC 8941, section 4.1.6).
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

impl Parameters {
    /// The parameters as a structured field, each with its `;`, in the order of RFC 9421.
    pub(super) fn serialize(&self) -> String {
        let mut text = String::new();
        for (key, number) in [("created", self.created), ("expires", self.expires)] {
            if let Some(number) = number {
                // Writing to a `String` does not fail.
                let _ = write!(text, ";{key}={number}");
            }
        }
        for (key, value) in
            [("nonce", &self.nonce), ("alg", &self.alg), ("keyid", &self.keyid), ("tag", &self.tag)]
        {
            if let Some(value) = value {
                let _ = write!(text, ";{key}={}", quoted(value));
            }
        }
        text
    }
}
