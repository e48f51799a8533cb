//! DID documents (W3C DID Core 1.0, section 5): which keys they hold, and which of these may
//! sign for the DID.

use serde_json::{Map, Value};

use super::{Did, PublicKey};

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
    #[error("the document has more than {max} verification methods", max = DidDocument::MAX_METHODS)]
    TooManyMethods,
    #[error("verification method {id}: {reason}")]
    Method { id: String, reason: String },
}

impl DidDocument {
    /// The most verification methods in a document.
    pub const MAX_METHODS: usize = 20;

    /// Reads a document. Methods of types that this service does not know, and of other
    /// controllers, are passed over; a malformed key of a type that it does know is an error.
    ///
    /// # Errors
    /// [`InvalidDocument`].
    pub fn parse(did: &Did, json: Value) -> Result<Self, InvalidDocument> {
        let Value::Object(json) = json else { return Err(InvalidDocument::NotADocument) };
        match json.get("id") {
            Some(Value::String(id)) if id == did.as_str() => {}
            Some(Value::String(_)) => return Err(InvalidDocument::WrongId),
            _ => return Err(InvalidDocument::NotADocument),
        }
        Ok(Self { json, methods: Vec::new() })
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
