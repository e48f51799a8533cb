//! What a resolver says of a DID: a DID resolution result (W3C DID Resolution, section 9) or a
//! document alone, and a status (section 12.1).

use reqwest::StatusCode;
use serde_json::Value;

use crate::domain::{Did, DidDocument};
use crate::resolvers::Answer;

/// What is said of the DID; `None` when nothing is.
pub(super) fn read(did: &Did, status: StatusCode, body: &[u8]) -> Option<Answer> {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let member = |name: &str| json.as_ref().and_then(|json| json.get(name));
    if member("didDocumentMetadata").and_then(|metadata| metadata.get("deactivated"))
        == Some(&Value::Bool(true))
    {
        return Some(Answer::Deactivated { finalized_at: None });
    }
    let metadata = member("didResolutionMetadata");
    match metadata.and_then(|metadata| metadata.get("error")) {
        None | Some(Value::Null) if status == StatusCode::OK => {}
        None | Some(Value::Null) => return of_status(status),
        Some(error) => return of_error(error),
    }
    let Some(mut json) = json else {
        return Some(Answer::Unusable("the Universal Resolver's answer is not JSON".to_owned()));
    };
    let is_result = json.get("didDocument").or_else(|| json.get("didResolutionMetadata")).is_some();
    let document = if is_result {
        json.get_mut("didDocument").map(Value::take).unwrap_or_default()
    } else {
        json
    };
    Some(match DidDocument::parse(did, document) {
        Ok(document) => Answer::Document { document, owner_address: None },
        Err(error) => Answer::Unusable(error.to_string()),
    })
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

/// An error of section 11: an object whose type is a URL such as
/// `https://www.w3.org/ns/did#NOT_FOUND`; formerly a text such as `notFound`.
fn of_error(error: &Value) -> Option<Answer> {
    let code = error.get("type").unwrap_or(error).as_str()?;
    let code = code.rsplit('#').next()?.replace('_', "").to_ascii_lowercase();
    match code.as_str() {
        "notfound" => Some(Answer::NotFound),
        "invaliddid" => Some(invalid_did()),
        "invaliddiddocument" => Some(unusable("calls its document invalid")),
        "representationnotsupported" => Some(representation_not_supported()),
        "methodnotsupported" => Some(method_not_supported()),
        _ => None,
    }
}

fn invalid_did() -> Answer {
    unusable("calls it invalid")
}

fn representation_not_supported() -> Answer {
    unusable("has no JSON document of it")
}

fn method_not_supported() -> Answer {
    unusable("does not read its method")
}

fn unusable(what: &str) -> Answer {
    Answer::Unusable(format!("the Universal Resolver {what}"))
}
