//! What the service says about itself: the OpenAPI document, its pages, the page of each code.

use std::collections::{BTreeMap, BTreeSet};

use rstest::rstest;
use serde_json::{Value, json};

use crate::dids::ed25519;
use crate::namespaces::ahead;
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
        let path = path.replace("namespaces/a", "namespaces/{namespace}");
        let path = path.replace("/sync/r", "/{kind}/{id}");
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
    let nonces = raw.session_nonces();
    for table in
        [nonces, "sessions", "signer_nonces", "signers", "dids WHERE NOT revoked", "record_owners"]
    {
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
        for mut body in bodies {
            prepare(&app).await;
            let (mut filled, query, headers) = filled(&path, &operation);
            if path.starts_with("/v1/webhooks/{id}") {
                // The service chooses the ids of webhooks.
                let webhook = json!({"url": "https://receiver.example", "types": ["a.b"]});
                let id = app.post("/v1/webhooks", &webhook).await.is(201).text_of("id");
                filled = filled.replace(SESSION, &id);
            }
            if let Some(nonce) = filled.strip_prefix(&format!("/v1/sessions/{SESSION}/nonces/")) {
                let nonce = json!({ "nonce": nonce });
                app.post(&format!("/v1/sessions/{SESSION}/nonces"), &nonce).await.is(201);
            }
            // No example of a time is ahead for ever.
            if let Some(time) = body.as_mut().and_then(|body| body.get_mut("expires_at")) {
                *time = ahead(&app, 300).into();
            }
            if let Some((path, nonce)) = filled.rsplit_once("/nonces/")
                && path.starts_with("/v1/namespaces/")
            {
                let nonce = json!({"nonce": nonce, "expires_at": ahead(&app, 300)});
                app.post(&format!("{path}/nonces"), &nonce).await.is(201);
            }
            if method != "PUT" && filled.contains("/sync/") {
                let put = app.request("PUT", &filled).header("if-none-match", "*");
                put.json(&crate::records::sealed(b"x")).send().await.is(201);
            }
            let mut request = app.request(&method, &format!("{filled}{query}"));
            if call.starts_with("DELETE /v1/records/{did}/") {
                request = request.header("if-match", "*");
            }
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

/// A page as a browser asks for it.
async fn page(app: &TestApp, path: &str) -> Answer {
    let request = app.anybody().request("GET", path);
    let answer = request.header("accept", "text/html,*/*;q=0.8").send().await.is(200);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
    answer
}

/// The values of an attribute, in order.
fn attributes<'h>(html: &'h str, name: &str) -> Vec<&'h str> {
    let before = format!(" {name}=\"");
    html.split(&before).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// What stands between two texts, as a browser shows it.
fn shown(html: &str, before: &str, after: &str) -> String {
    let rest = html.split(before).nth(1).unwrap_or_else(|| panic!("no {before}: {html}"));
    let inner = rest.split(after).next().unwrap();
    inner.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The page and all that it loads come from the service itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_works_offline() {
    let app = TestApp::start(Sqlite).await;
    let anybody = app.anybody();
    for path in ["/docs", "/docs/"] {
        let answer = page(&app, path).await;
        let html = &answer.text();
        let mut loaded = attributes(html, "src");
        loaded.extend(attributes(html, "href").iter().filter(|path| path.contains('.')));
        assert!(loaded.len() >= 5, "{loaded:?}");
        for file in loaded {
            assert!(file.starts_with('/') && !file.contains("//"), "{file} is elsewhere");
            assert!(anybody.get(file).await.is(200).body.len() > 100, "{file}");
        }
    }
    let start = anybody.get("/pages/start_swagger.js").await.is(200);
    assert_eq!(start.header("content-type"), Some("text/javascript; charset=utf-8"));
    for words in ["\"/openapi.json\"", "deepLinking: true", "validatorUrl: null"] {
        assert!(start.text().contains(words), "{words}: {}", start.text());
    }
    for path in [
        "/docs/nothing.js",
        "/docs/index.html",
        "/docs/../Cargo.toml",
        "/docs/..%2fCargo.toml",
        "/docs/a/b",
        "/pages/",
        "/pages/mod.rs",
        "/pages/..%2fmod.rs",
    ] {
        anybody.get(path).await.refused(404, "not_found");
    }
}

/// From every page, over every link: what the service serves, and each call's place in `/docs`.
#[tokio::test(flavor = "multi_thread")]
async fn every_link_on_the_pages_leads_somewhere() {
    let app = TestApp::start(Sqlite).await;
    let places: BTreeSet<String> = operations(&document(&app).await)
        .iter()
        .map(|(_, _, operation)| {
            let (tag, id) = (operation["tags"][0].as_str(), operation["operationId"].as_str());
            format!("/docs#/{}/{}", tag.unwrap(), id.unwrap())
        })
        .collect();
    let mut found = BTreeSet::new();
    let mut waiting = vec!["/docs".to_owned()];
    while let Some(link) = waiting.pop() {
        if !found.insert(link.clone()) || places.contains(&link) {
            continue;
        }
        assert!(!link.contains('#'), "{link} is no call's place");
        let request = app.anybody().request("GET", &link).header("accept", "text/html");
        let answer = request.send().await.is(200);
        if answer.header("content-type").unwrap().starts_with("text/html") {
            waiting.extend(attributes(&answer.text(), "href").iter().map(|&link| link.to_owned()));
        }
    }
    let codes = crate::support::CODES.iter().map(|(code, _)| format!("/problems/{code}"));
    let pages = ["/docs", "/problems", "/openapi.json", "/pages/style.css", "/pages/icon.svg"];
    for link in pages.map(str::to_owned).into_iter().chain(codes) {
        assert!(found.contains(&link), "{link} is linked nowhere");
    }
}

/// A page is safe in a browser, and readable on any screen.
#[tokio::test(flavor = "multi_thread")]
async fn pages_run_only_what_the_service_serves() {
    let app = TestApp::start(Sqlite).await;
    for path in ["/docs", "/problems", "/problems/nonce_replayed"] {
        let answer = page(&app, path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        for word in ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(word), "{path}: {policy}");
        }
        let html = &answer.text();
        for inline in ["<script>", "<style", " style=\"", " onload=", "javascript:"] {
            assert!(!html.contains(inline), "{path} has {inline}");
        }
        assert!(html.contains("<svg"), "{path}: no icon");
        for name in ["viewport", "color-scheme"] {
            assert!(attributes(html, "name").contains(&name), "{path}: {name}");
        }
    }
    let style = app.anybody().get("/pages/style.css").await.is(200);
    assert_eq!(style.header("content-type"), Some("text/css; charset=utf-8"));
    assert!(style.text().contains("prefers-color-scheme: dark"));
}

/// The example of a code is a whole answer, as the service gives it; the calls are those whose
/// description has the code.
#[tokio::test(flavor = "multi_thread")]
async fn a_problems_page_shows_an_answer_and_the_calls_that_give_it() {
    let app = TestApp::start(Sqlite).await;
    let document = document(&app).await;
    let mut calls: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, _, operation) in operations(&document) {
        for (_, response) in operation["responses"].as_object().unwrap() {
            let examples = &response["content"]["application/problem+json"]["examples"];
            for (code, _) in examples.as_object().into_iter().flatten() {
                let (tag, id) = (operation["tags"][0].as_str(), operation["operationId"].as_str());
                let place = format!("/docs#/{}/{}", tag.unwrap(), id.unwrap());
                calls.entry(code.clone()).or_default().push(place);
            }
        }
    }
    for (code, _) in crate::support::CODES {
        let answer = page(&app, &format!("/problems/{code}")).await;
        let html = &answer.text();
        let mut links = attributes(html, "href");
        links.retain(|link| link.contains('#'));
        links.sort_unstable();
        let mut expected = calls.remove(code).unwrap_or_default();
        expected.sort_unstable();
        assert_eq!(links, expected, "{code}");

        let example = shown(html, "<pre tabindex=\"0\"><code>", "</code>");
        let (head, body) = example.split_once("\n\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["code"], code);
        let schema = json!({"$ref": "#/components/schemas/Problem"});
        let wrong = differences(&document, &schema, &body, "");
        assert!(wrong.is_empty(), "{code}: {wrong:#?}");
        let status = body["status"].as_u64().unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {head}");
        assert!(head.contains("\ncontent-type: application/problem+json"), "{code}: {head}");
        let has = |name: &str| head.contains(&format!("\n{name}: "));
        assert_eq!(has("www-authenticate"), status == 401, "{code}: {head}");
        assert_eq!(has("retry-after"), [429, 503].contains(&status), "{code}: {head}");
        assert_eq!(has("allow"), status == 405, "{code}: {head}");
    }

    // Given the same request id, the service answers the same.
    let html = page(&app, "/problems/session_not_found").await;
    let example = shown(&html.text(), "<pre tabindex=\"0\"><code>", "</code>");
    let example: Value = serde_json::from_str(example.split_once("\n\n").unwrap().1).unwrap();
    let request = app.request("GET", &format!("/v1/sessions/{SESSION}"));
    let request = request.header("x-request-id", example["request_id"].as_str().unwrap());
    assert_eq!(request.send().await.refused(404, "session_not_found").json(), &example);
}

/// The `type` of each problem has a page, for people and for programs.
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
        let html = self::page(&app, path).await;
        for answer in [&page, &html] {
            assert_eq!(answer.header("vary"), Some("Accept"), "{code}");
        }
        assert!(html.text().contains(&format!("<code>{code}</code>")), "{code}");
        for member in ["title", "explanation", "remedy"] {
            let text = page[member].as_str().unwrap().replace('`', "");
            let html = html.text().replace("<code>", "").replace("</code>", "");
            assert!(shown(&html, "<main>", "</main>").contains(&text), "{code}: {member}");
        }
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
