//! Which calls answer with a code: what the OpenAPI document says, read the other way round.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::http::openapi::document;

/// Where a response has its codes, each with an example.
const EXAMPLES: &str = "/content/application~1problem+json/examples";

/// A call that may answer with a code.
pub(super) struct Call {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) summary: String,
    /// The status that the code has in this call's answer.
    pub(super) status: u16,
    tag: String,
    id: String,
}

impl Call {
    /// Where `/docs` shows the call.
    pub(super) fn place(&self) -> String {
        format!("/docs#/{}/{}", self.tag, self.id)
    }
}

/// The calls whose description has this code, in the document's order.
pub(super) fn with(code: &str) -> &'static [Call] {
    static CALLS: LazyLock<BTreeMap<String, Vec<Call>>> = LazyLock::new(|| {
        let document = serde_json::to_value(document()).unwrap_or_default();
        by_code(&document)
    });
    CALLS.get(code).map_or(&[], Vec::as_slice)
}

fn by_code(document: &Value) -> BTreeMap<String, Vec<Call>> {
    let mut by_code: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    for (path, item) in members(document, "/paths") {
        for (method, operation) in members(item, "") {
            for (status, response) in members(operation, "/responses") {
                for (code, _) in members(response, EXAMPLES) {
                    by_code.entry(code.clone()).or_default().push(Call {
                        method: method.to_uppercase(),
                        path: path.clone(),
                        summary: text(operation, "/summary"),
                        status: status.parse().unwrap_or_default(),
                        tag: text(operation, "/tags/0"),
                        id: text(operation, "/operationId"),
                    });
                }
            }
        }
    }
    by_code
}

/// The members of the object at this JSON pointer.
fn members<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Code;

    #[test]
    fn a_code_leads_to_the_calls_that_list_it() {
        let of = |code: Code| -> Vec<_> {
            let calls = with(code.as_str()).iter();
            calls.map(|call| format!("{} {} {}", call.status, call.method, call.path)).collect()
        };
        assert_eq!(
            of(Code::NonceUnused),
            [
                "404 GET /v1/namespaces/{namespace}/nonces/{nonce}",
                "404 GET /v1/sessions/{id}/nonces/{nonce}",
            ]
        );
        assert_eq!(
            of(Code::DidRevoked),
            [
                "409 DELETE /v1/dids/{did}",
                "409 PUT /v1/dids/{did}",
                "403 POST /v1/records/{did}/batch",
                "403 DELETE /v1/records/{did}/{kind}/{id}",
                "403 PUT /v1/records/{did}/{kind}/{id}",
                "403 POST /v1/sessions",
                "403 GET /v1/sessions/{id}/key",
                "403 POST /v1/sessions/{id}/nonces",
            ]
        );
        assert_eq!(of(Code::MethodNotAllowed), [""; 0]);
        assert_eq!(with("did_revoked")[0].place(), "/docs#/dids/forget_did");
    }
}
