//! What a resolver says about a DID: a DID resolution result (W3C DID Resolution, section 9) or
//! only a document, and a status (section 12.1).

use reqwest::StatusCode;
use serde_json::Value;

use super::fault::Fault;
use crate::domain::{Did, DidDocument};
use crate::resolvers::answer::{Answer, Unusable};

/// What the answer says about the DID.
///
/// # Errors
/// [`Fault`] when it says nothing, or nothing that can be understood.
pub(super) fn read(did: &Did, status: StatusCode, body: &[u8]) -> Result<Answer, Fault> {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let deactivated = is_deactivated(json.as_ref());
    if deactivated == Some(true) {
        return Ok(Answer::Deactivated { finalized_at: None });
    }
    let metadata = json.as_ref().and_then(|json| json.get("didResolutionMetadata"));
    let says_nothing = Fault::Status(status.as_u16());
    match metadata.and_then(|metadata| metadata.get("error")) {
        None | Some(Value::Null) if status == StatusCode::OK => {}
        None | Some(Value::Null) => return of_status(status).ok_or(says_nothing),
        Some(error) => return of_error(error).ok_or(says_nothing),
    }
    // The DID may be deactivated, and must not be taken for an active one.
    if deactivated.is_none() {
        return Err(Fault::Deactivated);
    }
    let Some(mut json) = json else {
        return Ok(unusable(Unusable::Document, "answers with what is not JSON"));
    };
    let is_result = json.get("didDocument").or_else(|| json.get("didResolutionMetadata")).is_some();
    let document = if is_result {
        json.get_mut("didDocument").map(Value::take).unwrap_or_default()
    } else {
        json
    };
    Ok(match DidDocument::parse(did, document) {
        Ok(document) => Answer::Document { document, owner_address: None },
        Err(error) => Answer::Unusable(error.into()),
    })
}

/// Whether the DID is deactivated (section 4.3: a boolean, false when it is absent). `None` when
/// the value is not a boolean.
fn is_deactivated(json: Option<&Value>) -> Option<bool> {
    let metadata = match json.and_then(|json| json.get("didDocumentMetadata")) {
        None | Some(Value::Null) => return Some(false),
        Some(metadata) => metadata.as_object()?,
    };
    metadata.get("deactivated").map_or(Some(false), Value::as_bool)
}

fn of_status(status: StatusCode) -> Option<Answer> {
    match status {
        StatusCode::NOT_FOUND => Some(Answer::NotFound),
        StatusCode::GONE => Some(Answer::Deactivated { finalized_at: None }),
        StatusCode::BAD_REQUEST => Some(invalid_did()),
        StatusCode::NOT_ACCEPTABLE => Some(representation_not_supported()),
        StatusCode::NOT_IMPLEMENTED => Some(method_not_supported()),
        _ => None,
    }
}

/// An error of section 11, or of the did:key method: an object whose type is a URL such as
/// `https://www.w3.org/ns/did#NOT_FOUND`; in earlier versions, a text such as `notFound`.
fn of_error(error: &Value) -> Option<Answer> {
    let code = error.get("type").unwrap_or(error).as_str()?;
    let code = code.rsplit('#').next()?.replace('_', "").to_ascii_lowercase();
    match code.as_str() {
        "notfound" => Some(Answer::NotFound),
        "invaliddid" => Some(invalid_did()),
        "invaliddiddocument" => Some(unusable(Unusable::Document, "calls its document invalid")),
        "representationnotsupported" => Some(representation_not_supported()),
        "methodnotsupported" => Some(method_not_supported()),
        "unsupportedpublickeytype" => {
            Some(unusable(Unusable::KeyType, "does not know the type of its key"))
        }
        _ => None,
    }
}

fn invalid_did() -> Answer {
    unusable(Unusable::Did, "calls it invalid")
}

fn representation_not_supported() -> Answer {
    unusable(Unusable::Representation, "has no JSON document of it")
}

fn method_not_supported() -> Answer {
    unusable(Unusable::Method, "does not read its method")
}

fn unusable(reason: fn(String) -> Unusable, what: &str) -> Answer {
    Answer::Unusable(reason(format!("the Universal Resolver {what}")))
}
