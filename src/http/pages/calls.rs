//! Which calls answer with a code: what the OpenAPI document says, read the other way round.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::http::docs::document;

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
    for (path, item) in members(member(document, "paths")) {
        for (method, operation) in members(item) {
            for (status, response) in members(member(operation, "responses")) {
                let problem = member(member(response, "content"), "application/problem+json");
                for (code, _) in members(member(problem, "examples")) {
                    by_code.entry(code.clone()).or_default().push(Call {
                        method: method.to_uppercase(),
                        path: path.clone(),
                        summary: text(member(operation, "summary")),
                        status: status.parse().unwrap_or_default(),
                        tag: text(operation.pointer("/tags/0").unwrap_or(&Value::Null)),
                        id: text(member(operation, "operationId")),
                    });
                }
            }
        }
    }
    by_code
}

fn member<'v>(value: &'v Value, name: &str) -> &'v Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
