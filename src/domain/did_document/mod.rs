//! DID documents (W3C DID Core 1.0, section 5): which keys they hold, and which of these may
//! sign for the DID.

mod build;
mod method;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Did, DidUrl, PublicKey};

pub use build::KeyAgreement;

/// A DID document that was checked: it is the DID's own, and every key in it that this service
/// could use is well-formed. What it holds beyond that stays in [`Self::json`].
#[derive(Debug, Clone, PartialEq)]
pub struct DidDocument {
    json: Map<String, Value>,
    methods: Vec<VerificationMethod>,
}

/// A key of a DID, by its DID URL (DID Core 1.0, section 5.2).
#[derive(Debug, Clone, PartialEq)]
pub struct VerificationMethod {
    /// Absolute: the DID, `#`, and the fragment.
    pub id: String,
    pub key: PublicKey,
    /// Whether the key is in the `authentication` relationship: only these may sign.
    pub authentication: bool,
}

/// The JSON is no usable document of the DID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDocument {
    #[error("the document is no JSON object with an id")]
    NotADocument,
    #[error("the document's id is not the DID")]
    WrongId,
    #[error("the document has the character U+0000, which cannot be stored")]
    NullCharacter,
    #[error("the document's {0} is no list of verification methods, each with an id and a type")]
    NotMethods(&'static str),
    #[error("the document has more than {max} verification methods", max = DidDocument::MAX_METHODS)]
    TooManyMethods,
    #[error("the document has two verification methods with the id {0}")]
    DuplicateMethod(String),
    #[error("verification method {id}: {reason}")]
    Method { id: String, reason: String },
}

const VERIFICATION_METHOD: &str = "verificationMethod";
const AUTHENTICATION: &str = "authentication";

impl DidDocument {
    /// The most verification methods in a document, and the most entries in a list of them.
    pub const MAX_METHODS: usize = 20;

    /// Reads a document. Passed over are methods of types that this service does not know, and
    /// those whose id or controller is not the DID's; a malformed key of a type that it does
    /// know is an error.
    ///
    /// # Errors
    /// [`InvalidDocument`]. Its text is safe to show: of the document it has DID URLs at most.
    pub fn parse(did: &Did, json: Value) -> Result<Self, InvalidDocument> {
        let Value::Object(json) = json else { return Err(InvalidDocument::NotADocument) };
        match json.get("id") {
            Some(Value::String(id)) if id == did.as_str() => {}
            Some(Value::String(_)) => return Err(InvalidDocument::WrongId),
            _ => return Err(InvalidDocument::NotADocument),
        }
        if has_null_character(&json) {
            return Err(InvalidDocument::NullCharacter);
        }
        let methods = read_methods(did, &json)?;
        Ok(Self { json, methods })
    }

    /// The document as it was read.
    #[must_use]
    pub const fn json(&self) -> &Map<String, Value> {
        &self.json
    }

    /// The keys that this service can use, in the document's order.
    #[must_use]
    pub fn methods(&self) -> &[VerificationMethod] {
        &self.methods
    }

    /// The first key that may sign.
    #[must_use]
    pub fn first_key(&self) -> Option<&PublicKey> {
        self.methods.iter().find(|method| method.authentication).map(|method| &method.key)
    }
}

/// JSON may have it in any text. PostgreSQL has no text with it, not even in its JSON.
fn has_null_character(json: &Map<String, Value>) -> bool {
    fn in_value(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(list) => list.iter().any(in_value),
            Value::Object(members) => has_null_character(members),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    json.iter().any(|(name, value)| name.contains('\0') || in_value(value))
}

fn read_methods(
    did: &Did,
    json: &Map<String, Value>,
) -> Result<Vec<VerificationMethod>, InvalidDocument> {
    // An entry of `authentication` is a method of its own, or the id of one listed elsewhere.
    let (embedded, references): (Vec<&Value>, Vec<&Value>) =
        list(json, AUTHENTICATION)?.iter().partition(|entry| entry.is_object());
    let mut may_sign = HashSet::new();
    for reference in references {
        let id = reference.as_str().ok_or(InvalidDocument::NotMethods(AUTHENTICATION))?;
        may_sign.extend(own_id(did, id));
    }

    let listed = list(json, VERIFICATION_METHOD)?;
    if listed.len() + embedded.len() > DidDocument::MAX_METHODS {
        return Err(InvalidDocument::TooManyMethods);
    }
    let listed = listed.iter().map(|entry| (entry, VERIFICATION_METHOD));
    let embedded = embedded.into_iter().map(|entry| (entry, AUTHENTICATION));
    let mut ids = HashSet::new();
    let mut methods = Vec::new();
    for (entry, list) in listed.chain(embedded) {
        let malformed = InvalidDocument::NotMethods(list);
        let Value::Object(entry) = entry else { return Err(malformed) };
        let (Some(Value::String(id)), Some(Value::String(kind))) =
            (entry.get("id"), entry.get("type"))
        else {
            return Err(malformed);
        };
        let Some(id) = own_id(did, id) else { continue };
        if !ids.insert(id.clone()) {
            return Err(InvalidDocument::DuplicateMethod(id));
        }
        if entry.get("controller").and_then(Value::as_str) != Some(did.as_str()) {
            continue;
        }
        match method::key(kind, entry) {
            Ok(Some(key)) => {
                let authentication = list == AUTHENTICATION || may_sign.contains(&id);
                methods.push(VerificationMethod { id, key, authentication });
            }
            Ok(None) => {}
            Err(malformed) => {
                return Err(InvalidDocument::Method { id, reason: malformed.to_string() });
            }
        }
    }
    Ok(methods)
}

fn list<'a>(
    json: &'a Map<String, Value>,
    name: &'static str,
) -> Result<&'a [Value], InvalidDocument> {
    match json.get(name) {
        None => Ok(&[]),
        Some(Value::Array(list)) if list.len() > DidDocument::MAX_METHODS => {
            Err(InvalidDocument::TooManyMethods)
        }
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(InvalidDocument::NotMethods(name)),
    }
}

/// The absolute form of an id that names a key of this DID (DID Core 1.0, section 3.2.2: a
/// relative one is resolved against the DID).
fn own_id(did: &Did, id: &str) -> Option<String> {
    let id = if id.starts_with('#') { format!("{did}{id}") } else { id.to_owned() };
    let url = DidUrl::parse(&id).ok()?;
    (url.did() == did && url.fragment().is_some()).then_some(id)
}
