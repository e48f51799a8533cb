//! What the service says about itself: the OpenAPI document, its pages, the page of each code.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::{Value, json};

use crate::dids::ed25519;
use crate::routing::PATHS;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Answer, TestApp};

/// What is served to callers without a credential, too, or checks it itself.
const UNGUARDED: [&str; 4] =
    ["GET /openapi.json", "GET /v1/forward-auth", "GET /1.0/methods", "GET /1.0/properties"];
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
/// The session and the DID of the examples.
const SESSION: &str = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55";
const DID: &str = "did:web:client.example";

async fn document(app: &TestApp) -> Value {
    app.anybody().get("/openapi.json").await.is(200).json().clone()
}

/// Every operation: method, path, description.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if METHODS.contains(&method.as_str()) {
                operations.push((method.to_uppercase(), path.clone(), operation.clone()));
            }
        }
    }
    operations
}

/// Follows a `$ref`.
fn resolved<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(to) => {
            let pointer = to.strip_prefix('#').unwrap_or_else(|| panic!("{to} leads outside"));
            let target = document.pointer(pointer).unwrap_or_else(|| panic!("{to} leads nowhere"));
            resolved(document, target)
        }
        None => value,
    }
}

/// What of `value` is not as the schema says. Strict: a member without a property is wrong.
fn differences(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = resolved(document, schema);
    for word in ["oneOf", "anyOf"] {
        let Some(choices) = schema.get(word).and_then(Value::as_array) else { continue };
        let tried = choices.iter().map(|choice| differences(document, choice, value, at));
        let tried: Vec<_> = tried.collect();
        if tried.iter().any(Vec::is_empty) {
            return Vec::new();
        }
        return tried.concat();
    }
    let mut wrong = Vec::new();
    if let Some(kind) = schema.get("type") {
        let kinds: Vec<_> = match kind {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        let is = |kind: &&str| match *kind {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("an unknown type: {other}"),
        };
        if !kinds.iter().any(is) {
            return vec![format!("{at}: {value} is no {kind}")];
        }
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for (index, value) in values.iter().enumerate() {
            wrong.extend(differences(document, items, value, &format!("{at}/{index}")));
        }
    }
    if let (Some(properties), Some(members)) =
        (schema.get("properties").and_then(Value::as_object), value.as_object())
    {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !members.contains_key(name.as_str().unwrap()) {
                wrong.push(format!("{at}: {name} is required and missing"));
            }
        }
        for (name, value) in members {
            match properties.get(name) {
                Some(schema) => {
                    wrong.extend(differences(document, schema, value, &format!("{at}/{name}")));
                }
                None => wrong.push(format!("{at}: {name} is not described")),
            }
        }
    }
    wrong
}

/// The content of a request or a response, by its media type.
fn content<'d>(described: &'d Value, media_type: &str) -> &'d Value {
    described["content"].get(media_type).unwrap_or_else(|| panic!("no {media_type}: {described}"))
}

/// Every example that a request or response has.
fn examples(content: &Value) -> Vec<Value> {
    let many = content["examples"].as_object().into_iter().flatten();
    let many = many.map(|(_, example)| example["value"].clone());
    content.get("example").cloned().into_iter().chain(many).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_openapi_3_1_and_whole() {
    let app = TestApp::start(Sqlite).await;
    let answer = app.anybody().get("/openapi.json").await.is(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["info"]["title"], "onceguard");

    // Every path and method of the service, and no other.
    let mut served = BTreeSet::from(UNGUARDED.map(str::to_owned));
    for (path, methods) in PATHS {
        let path = path.replace(SESSION, "{id}").replace("did:web:a.example", "{did}");
        let path = path.replace("nonces/n", "nonces/{nonce}").replace("{nonce}onces", "nonces");
        let methods = methods.split(", ").filter(|method| *method != "HEAD");
        served.extend(methods.map(|method| format!("{method} {path}")));
    }
    let operations = operations(document);
    let described: BTreeSet<_> = operations.iter().map(|(m, p, _)| format!("{m} {p}")).collect();
    assert_eq!(described, served);

    let mut ids = BTreeSet::new();
    for (method, path, operation) in &operations {
        let call = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].to_string()), "{call}: its id is not its own");
        assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{call}");
        if path != "/openapi.json" {
            assert!(!operation["security"].as_array().unwrap().is_empty(), "{call}");
            let statuses = match path.as_str() {
                "/v1/forward-auth" => &["401", "403", "503"][..],
                "/1.0/identifiers/{did}" => &["401", "403", "413", "500", "501", "503"],
                "/1.0/methods" | "/1.0/properties" => &["401", "403", "413", "500", "503"],
                _ => &["401", "403", "413", "422", "500", "503"],
            };
            for status in statuses {
                assert!(operation["responses"].get(*status).is_some(), "{call} {status}");
            }
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path = parameters.iter().filter(|one| one["in"] == "path");
        let mut names: Vec<_> = in_path.map(|one| one["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        let mut expected: Vec<_> =
            path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}')).collect();
        expected.sort_unstable();
        assert_eq!(names, expected, "{call}");
    }
    every_reference_leads_somewhere(document, document);
}

fn every_reference_leads_somewhere(document: &Value, value: &Value) {
    resolved(document, value);
    let inner: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => Vec::new(),
    };
    for value in inner {
        every_reference_leads_somewhere(document, value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_fits_its_schema() {
    let app = TestApp::start(Sqlite).await;
    let document = document(&app).await;
    let mut checked = 0;
    let mut check = |content: &Value, at: &str| {
        for example in examples(content) {
            let wrong = differences(&document, &content["schema"], &example, "");
            assert!(wrong.is_empty(), "{at}: {wrong:#?}");
            checked += 1;
        }
    };
    for (method, path, operation) in operations(&document) {
        if let Some(body) = operation.get("requestBody") {
            let content = content(resolved(&document, body), "application/json");
            assert!(!examples(content).is_empty(), "{method} {path} has no example");
            check(content, &format!("{method} {path}"));
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let contents = resolved(&document, response)["content"].as_object().cloned();
            for (media_type, content) in contents.unwrap_or_default() {
                let expected = if status.as_str() < "400" {
                    "application/json"
                } else {
                    "application/problem+json"
                };
                let is_of_dids = media_type.contains("did") && path.starts_with("/1.0/");
                assert!(is_of_dids || media_type == expected, "{method} {path} {status}");
                check(&content, &format!("{method} {path} {status}"));
            }
        }
    }
    assert!(checked > 50, "{checked} examples");
}

/// Prepares what the examples speak of: a session with a key and a spent nonce, and a DID.
async fn prepare(app: &TestApp) {
    let raw = app.store().raw();
    for table in ["nonces", "sessions", "signer_nonces", "signers", "dids WHERE NOT revoked"] {
        raw.execute(&format!("DELETE FROM {table}")).await;
    }
    let body = json!({"id": SESSION, "client_did": "did:web:a", "server_did": "did:web:b", "session_key": "a2V5"});
    app.post("/v1/sessions", &body).await.is(201);
    app.put(&format!("/v1/dids/{DID}"), &ed25519(1)).await.is(201);
}

/// Every documented call, sent as its examples say, is answered as the document says.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_accepted_by_the_service(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let document = document(&app).await;
    let mut operations = operations(&document);
    // Nothing can be prepared with a DID that is revoked.
    operations.sort_by_key(|(_, path, _)| path.ends_with("/revoke"));
    for (method, path, operation) in operations {
        let call = format!("{method} {path}");
        let bodies = operation.get("requestBody").map_or_else(
            || vec![None],
            |body| {
                let content = content(resolved(&document, body), "application/json");
                examples(content).into_iter().map(Some).collect()
            },
        );
        for body in bodies {
            prepare(&app).await;
            let (filled, query, headers) = filled(&path, &operation);
            if let Some(nonce) = filled.strip_prefix(&format!("/v1/sessions/{SESSION}/nonces/")) {
                let nonce = json!({ "nonce": nonce });
                app.post(&format!("/v1/sessions/{SESSION}/nonces"), &nonce).await.is(201);
            }
            let mut request = app.request(&method, &format!("{filled}{query}"));
            for (name, value) in headers {
                request = request.header(&name, &value);
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = request.send().await;
            if call == "POST /v1/verify" {
                // No example of a signature is valid for ever.
                answer.refused(403, "signature_window_invalid");
                continue;
            }
            if call == "GET /v1/forward-auth" {
                answer.refused(401, "signature_required");
                continue;
            }
            assert!(answer.status < 300, "{call}: {answer:?}");
            fits(&document, &operation, &answer, &call);
        }
    }
}

/// A path with the examples of its parameters, the query of the others, and the headers. What
/// comes from an answer, as a cursor does, has no example that is true.
fn filled(path: &str, operation: &Value) -> (String, String, Vec<(String, String)>) {
    let (mut path, mut query, mut headers) = (path.to_owned(), String::new(), Vec::new());
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        if ["cursor", "If-Match"].contains(&name) {
            continue;
        }
        if parameter["required"] == false && parameter.get("example").is_none() {
            continue;
        }
        let example = match &parameter["example"] {
            Value::String(text) => text.clone(),
            Value::Null => panic!("{path}: {name} has no example"),
            other => other.to_string(),
        };
        match parameter["in"].as_str().unwrap() {
            "path" => path = path.replace(&format!("{{{name}}}"), &example),
            "query" => {
                let separator = if query.is_empty() { '?' } else { '&' };
                query = format!("{query}{separator}{name}={example}");
            }
            "header" => headers.push((name.to_owned(), example)),
            other => panic!("{path}: {name} is in {other}"),
        }
    }
    (path, query, headers)
}

/// The answer is one that the operation's description has.
fn fits(document: &Value, operation: &Value, answer: &Answer, call: &str) {
    let described = operation["responses"].get(answer.status.to_string());
    let described = described.unwrap_or_else(|| panic!("{call} answers {}", answer.status));
    let described = resolved(document, described);
    for name in described["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
        // Said only of a repeat.
        if name != "Idempotency-Replayed" {
            assert!(answer.header(name).is_some(), "{call}: no {name}");
        }
    }
    if answer.body.is_empty() {
        assert!(described.get("content").is_none(), "{call}");
        return;
    }
    let schema = &content(described, answer.header("content-type").unwrap())["schema"];
    let wrong = differences(document, schema, answer.json(), "");
    assert!(wrong.is_empty(), "{call}: {wrong:#?}");
}

/// The page and all that it loads come from the service itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_works_offline() {
    let app = TestApp::start(Sqlite).await;
    let anybody = app.anybody();
    for (page, folder) in
        [("/docs", "/docs/"), ("/docs/", "/docs/"), ("/docs/index.html", "/docs/")]
    {
        let answer = anybody.get(page).await.is(200);
        assert!(answer.header("content-type").unwrap().starts_with("text/html"));
        let html = answer.text();
        let loaded: Vec<_> = html
            .split(['"', '\''])
            .filter(|part| [".js", ".css", ".png"].iter().any(|end| part.ends_with(end)))
            .collect();
        assert!(loaded.len() >= 3, "{loaded:?}");
        for file in loaded {
            assert!(!file.contains("//"), "{file} is elsewhere");
            let path = format!("{folder}{}", file.trim_start_matches("./"));
            assert!(anybody.get(&path).await.is(200).body.len() > 100, "{path}");
        }
    }
    let initializer = anybody.get("/docs/swagger-initializer.js").await.is(200).text();
    assert!(initializer.contains("openapi.json"), "{initializer}");
    for path in ["/docs/nothing.js", "/docs/../Cargo.toml", "/docs/..%2fCargo.toml", "/docs/a/b"] {
        anybody.get(path).await.refused(404, "not_found");
    }
}

/// Whatever `type` a problem names has a page, for people and for programs.
#[tokio::test(flavor = "multi_thread")]
async fn every_code_has_a_page() {
    let app = TestApp::start(Sqlite).await;
    let anybody = app.anybody();
    let index = anybody.get("/problems").await.is(200);
    let codes = index.json().as_array().unwrap();
    for entry in codes {
        let (path, code) = (entry["type"].as_str().unwrap(), entry["code"].as_str().unwrap());
        assert_eq!(path, format!("/problems/{code}"));
        let page = anybody.get(path).await.is(200);
        assert_eq!(page.json(), entry);
        for member in ["title", "explanation", "remedy"] {
            assert!(!page[member].as_str().unwrap().is_empty(), "{code}: {member}");
        }
        let html = anybody.request("GET", path).header("accept", "text/html,*/*;q=0.8");
        let html = html.send().await.is(200);
        assert!(html.header("content-type").unwrap().starts_with("text/html"));
        assert!(
            html.text().contains(code) && html.text().contains(page["title"].as_str().unwrap())
        );
    }
    // Every code of api.md that this version can answer with, and no other.
    let words: BTreeSet<_> = codes.iter().map(|entry| entry["code"].as_str().unwrap()).collect();
    let known: BTreeSet<_> = crate::support::CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(words, known);
    for path in
        ["/problems/nonsense", "/problems/", "/problems/forbidden/x", "/problems/%3Cscript%3E"]
    {
        let answer = anybody.request("GET", path).header("accept", "text/html").send().await;
        assert!(!answer.refused(404, "not_found").text().contains("script"));
    }
}
