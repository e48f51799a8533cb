//! A caller of the HTTP API that checks in each answer what the API promises of every answer.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Index;

use reqwest::header::HeaderMap;
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Every code, with the statuses that it can come with.
pub const CODES: [(&str, &[u16]); 53] = [
    ("invalid_request", &[400]),
    ("unauthenticated", &[401]),
    ("forbidden", &[403]),
    ("did_revoked", &[403, 409]),
    ("session_not_found", &[401, 403, 404]),
    ("did_not_found", &[404]),
    ("record_not_found", &[404]),
    ("nonce_unused", &[404]),
    ("not_found", &[404]),
    ("method_not_allowed", &[405]),
    ("nonce_replayed", &[409]),
    ("session_exists", &[409]),
    ("webhook_configured", &[409]),
    ("session_id_before_restore", &[409]),
    ("issued_before_restore", &[409]),
    ("session_ended", &[401, 403, 410]),
    ("session_expired", &[401, 403, 410]),
    ("cursor_expired", &[410]),
    ("precondition_failed", &[412]),
    ("precondition_required", &[428]),
    ("payload_too_large", &[413]),
    ("unsupported_media_type", &[415]),
    ("validation_failed", &[422]),
    ("did_unresolvable", &[422]),
    ("checksum_mismatch", &[422]),
    ("claim_quota_reached", &[403, 429]),
    ("record_quota_reached", &[507]),
    ("rate_limited", &[429]),
    ("upstream_unavailable", &[503]),
    ("signature_key_unavailable", &[503]),
    ("signature_revocation_stale", &[503]),
    ("internal_error", &[500, 503]),
    ("storage_unavailable", &[503]),
    ("storage_went_back", &[503]),
    ("overloaded", &[503]),
    ("outcome_unknown", &[503]),
    ("signature_required", &[401, 403]),
    ("signature_malformed", &[401, 403]),
    ("signature_tag_invalid", &[401, 403]),
    ("signature_params_incomplete", &[401, 403]),
    ("signature_alg_not_allowed", &[401, 403]),
    ("signature_window_invalid", &[401, 403]),
    ("signature_components_incomplete", &[401, 403]),
    ("signature_key_unknown", &[401, 403]),
    ("signature_key_revoked", &[403]),
    ("signature_invalid", &[401, 403]),
    ("signature_digest_mismatch", &[401, 403]),
    ("signature_not_a_party", &[403]),
    ("signature_replayed", &[401, 403]),
    ("signature_before_restore", &[401, 403]),
    ("host_not_allowed", &[421]),
    ("forward_headers_ambiguous", &[403]),
    ("forward_headers_invalid", &[403]),
];

/// A client that follows no redirect and uses no proxy.
pub fn http_client() -> reqwest::ClientBuilder {
    // Another test may have set it first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none())
}

/// A caller, with or without a token.
#[derive(Clone)]
pub struct Caller {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Caller {
    pub fn new(http: reqwest::Client, base: String, token: Option<&str>) -> Self {
        Self { http, base, token: token.map(str::to_owned) }
    }

    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// The token's text.
    pub fn token_text(&self) -> &str {
        self.token.as_deref().expect("a caller with a token")
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request to complete. The path is sent as it is written.
    pub fn request(&self, method: &str, path: &str) -> Request {
        let url = format!("{}{path}", self.base);
        let mut builder = self.http.request(method.parse().unwrap(), url);
        if let Some(token) = &self.token {
            builder = builder.bearer_auth(token);
        }
        Request { builder, what: format!("{method} {path}"), head: method == "HEAD" }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send().await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path).send().await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path).json(body).send().await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.request("PUT", path).json(body).send().await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.request("PATCH", path).json(body).send().await
    }

    /// Opens a session with these fields beside the two parties.
    pub async fn open_with(&self, fields: Value) -> Answer {
        let mut body = fields;
        for party in ["client_did", "server_did"] {
            if body.get(party).is_none() {
                body[party] = super::a_did().as_str().into();
            }
        }
        self.post("/v1/sessions", &body).await.is(201)
    }

    /// For the operations listener: the sum of a metric's series whose labels contain all of these
    /// texts.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let exposition = self.get("/metrics").await.is(200).text();
        let series = exposition.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// The id of a new session.
    pub async fn session(&self) -> String {
        self.open_with(Value::Object(Map::new())).await.text_of("id")
    }
}

/// A request to complete and send.
pub struct Request {
    builder: reqwest::RequestBuilder,
    what: String,
    head: bool,
}

impl Request {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.builder = self.builder.json(body);
        self
    }

    /// A body that is declared as JSON, even if it is not.
    pub fn text(self, body: impl Into<reqwest::Body>) -> Self {
        self.body(body).header("content-type", "application/json")
    }

    pub fn body(mut self, body: impl Into<reqwest::Body>) -> Self {
        self.builder = self.builder.body(body);
        self
    }

    pub async fn send(self) -> Answer {
        let what = self.what.clone();
        self.try_send().await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// Sends the request to a service that may die meanwhile.
    ///
    /// # Errors
    /// When no complete answer came.
    pub async fn try_send(self) -> reqwest::Result<Answer> {
        let response = self.builder.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await?.to_vec();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        let answer = Answer { status, headers, body, json, what: self.what };
        answer.check(self.head);
        Ok(answer)
    }
}

/// The answer to a request.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Null when the body is not JSON.
    json: Value,
    what: String,
}

impl Answer {
    /// The answer with this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The refusal with this status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code()), (status, code), "{self:?}");
        self
    }

    /// A problem's code, or an empty text.
    pub fn code(&self) -> &str {
        self["code"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub fn json(&self) -> &Value {
        assert!(!self.json.is_null(), "no JSON: {self:?}");
        &self.json
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// A member of the body that must be a string.
    #[track_caller]
    pub fn text_of(&self, name: &str) -> String {
        let text = self.json.get(name).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("no string {name}: {self:?}")).to_owned()
    }

    /// A header that occurs once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    /// The pointers in `errors`, sorted.
    #[track_caller]
    pub fn pointers(&self) -> Vec<String> {
        let errors = self["errors"].as_array().unwrap_or_else(|| panic!("no errors: {self:?}"));
        let pointer = |error: &Value| error["pointer"].as_str().unwrap().to_owned();
        let mut pointers: Vec<_> = errors.iter().map(pointer).collect();
        pointers.sort();
        pointers
    }

    /// The 422 whose `errors` name exactly these.
    #[track_caller]
    pub fn names(self, pointers: &[&str]) -> Self {
        let answer = self.refused(422, "validation_failed");
        let mut expected = pointers.to_vec();
        expected.sort_unstable();
        assert_eq!(answer.pointers(), expected, "{answer:?}");
        answer
    }

    /// Checks what the API promises of every answer.
    fn check(&self, head: bool) {
        let request_id = self.header("x-request-id").unwrap_or_else(|| panic!("no id: {self:?}"));
        assert!((1..=128).contains(&request_id.len()), "{self:?}");
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{self:?}");
        if head {
            assert!(self.body.is_empty(), "HEAD has no body: {self:?}");
            return;
        }
        // `/readyz` answers in the same form with every status, and an unknown DID gets a
        // resolution result.
        let is_other = self.what.ends_with("/readyz") || self.is_resolution_result();
        if self.status >= 400 && !is_other {
            self.check_problem(request_id);
        }
    }

    fn is_resolution_result(&self) -> bool {
        let content_type = self.header("content-type").unwrap_or_default();
        self.what.contains(" /1.0/") && content_type != "application/problem+json"
    }

    fn check_problem(&self, request_id: &str) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body = self.json();
        let code = self.text_of("code");
        let (_, statuses) = CODES
            .iter()
            .find(|(known, _)| *known == code)
            .unwrap_or_else(|| panic!("an unknown code: {self:?}"));
        assert!(statuses.contains(&self.status), "{code} has another status: {self:?}");
        assert_eq!(body["status"], self.status, "{self:?}");
        let kind = self.text_of("type");
        assert!(kind.ends_with(&format!("/problems/{code}")), "{self:?}");
        assert_eq!(body["request_id"], request_id, "{self:?}");
        for name in ["title", "detail"] {
            assert!(!self.text_of(name).is_empty(), "{self:?}");
        }
        let mut members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        members.retain(|name| {
            !["type", "title", "status", "detail", "code", "request_id"].contains(name)
        });
        members.sort_unstable();
        let expected: &[&str] = match code.as_str() {
            "validation_failed" => &["errors"],
            // Of a batch, which names each change.
            "precondition_failed" if self.what.ends_with("/batch") => &["errors"],
            "nonce_replayed" | "signature_replayed" => &["first_used_at"],
            "session_ended" | "session_expired" => &["end_reason", "ended_at"],
            _ => &[],
        };
        assert_eq!(members, expected, "{self:?}");
        self.check_errors();
        self.check_headers(&code);
        if self.status >= 500 {
            let text = self.text().to_lowercase();
            for inside in ["sqlite", "postgres", "diesel", "panick", "127.0.0.1", "select"] {
                assert!(!text.contains(inside), "a 5xx tells of the inside: {self:?}");
            }
        }
    }

    fn check_errors(&self) {
        let Some(errors) = self.json.get("errors") else { return };
        let errors = errors.as_array().unwrap();
        assert!(!errors.is_empty(), "{self:?}");
        for error in errors {
            let has_etag = self.code() == "precondition_failed" && error.get("etag").is_some();
            let members = if has_etag { 3 } else { 2 };
            assert_eq!(error.as_object().unwrap().len(), members, "{self:?}");
            assert!(error["pointer"].is_string(), "{self:?}");
            assert!(!error["detail"].as_str().unwrap().is_empty(), "{self:?}");
        }
    }

    fn check_headers(&self, code: &str) {
        let challenges: Vec<_> = self.headers.get_all("www-authenticate").iter().collect();
        if self.status == 401 {
            let challenges: Vec<_> =
                challenges.iter().map(|value| value.to_str().unwrap()).collect();
            let (signature, token) = challenges.split_last().unwrap();
            match token {
                [bearer] => assert!(bearer.starts_with("Bearer"), "{self:?}"),
                // For a request to the service behind a proxy, which takes no token.
                [] => assert!(self.what.contains("/v1/forward-auth"), "{self:?}"),
                _ => panic!("more than two challenges: {self:?}"),
            }
            let error = format!("error=\"{code}\"");
            assert!(signature.starts_with("Signature") && signature.contains(&error), "{self:?}");
        } else {
            assert!(challenges.is_empty(), "{self:?}");
        }
        let retry_after = self.header("retry-after").map(|seconds| seconds.parse::<u32>().unwrap());
        let waits = retry_after.is_some_and(|seconds| seconds > 0);
        // A signer's quota gets room again in time. A session that is used up does not.
        if (self.status, code) != (429, "claim_quota_reached") {
            assert_eq!(waits, [429, 503].contains(&self.status), "{self:?}");
        }
        assert_eq!(self.header("allow").is_some(), self.status == 405, "{self:?}");
    }
}

/// A member of the body. Null when it is missing.
impl Index<&str> for Answer {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        &self.json[name]
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}\n{:?}\n", self.what, self.status, self.headers)?;
        f.write_str(&String::from_utf8_lossy(&self.body))
    }
}

/// Sends bytes that no well-behaved client sends, and reads the answer: status, head, body.
pub async fn send_bytes(address: SocketAddr, request: Vec<u8>) -> (u16, String, String) {
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    // The service may answer and close the connection before it has read everything.
    let sent = tokio::spawn(async move {
        let _ = write.write_all(&request).await;
        write
    });
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        match read.read(&mut buffer).await {
            Ok(length @ 1..) => answer.extend_from_slice(&buffer[..length]),
            Ok(0) | Err(_) => break,
        }
        if is_complete(&answer) {
            break;
        }
    }
    sent.abort();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no HTTP answer: {answer:?}"));
    (status, head.to_lowercase(), body.to_owned())
}

/// Whether the body is as long as the head says.
fn is_complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| length.parse::<usize>().unwrap() <= body.len())
}
