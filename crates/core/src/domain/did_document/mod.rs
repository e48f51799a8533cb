//! DID documents (W3C DID Core 1.0, section 5): which keys they hold, and which of these may
//! sign for the DID.

mod build;
mod jwk;
mod key;
mod method;
mod methods;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::{Did, PublicKey};

pub use build::KeyAgreement;
pub use method::{UnusableMethod, VerificationMethod};

/// A DID document that was checked: it is the DID's own. What it holds beyond keys stays in
/// [`Self::json`].
#[derive(Debug, Clone, PartialEq)]
pub struct DidDocument {
    json: Map<String, Value>,
    methods: Vec<VerificationMethod>,
    unusable: Vec<UnusableMethod>,
}

/// The JSON is no document of the DID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDocument {
    #[error("the document is no JSON object with an id")]
    NotADocument,
    #[error("the document's id is not the DID")]
    WrongId,
    #[error("the document has the character U+0000, which cannot be stored")]
    NullCharacter,
}

impl DidDocument {
    /// The most keys of a document that are read, and the most methods that are named as
    /// unusable.
    pub const MAX_METHODS: usize = method::MAX_METHODS;

    /// Reads a document. A key that cannot be used is left out, and named in
    /// [`Self::unusable`]: the others stay usable.
    ///
    /// # Errors
    /// [`InvalidDocument`]. Its text is safe to show.
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
        let (methods, unusable) = methods::read(did, &json);
        Ok(Self { json, methods, unusable })
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

    /// What was left out, at most [`Self::MAX_METHODS`] of it.
    #[must_use]
    pub fn unusable(&self) -> &[UnusableMethod] {
        &self.unusable
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
