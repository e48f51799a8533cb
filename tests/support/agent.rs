//! Agents with keys of their own, and the requests that they sign.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onceguard::domain::{Did, DidUrl, KeyType, Nonce, Timestamp};
use onceguard::resolvers::did_key;
use onceguard::signatures::{Body, Profile, Request, Signer, SigningKey, Target};
use serde_json::{Value, json};

use super::client::{Caller, Request as HttpRequest};
use super::{TestApp, unique};

/// An agent that signs with a did:key of its own.
#[derive(Clone)]
pub struct Agent {
    pub did: Did,
    pub signer: Signer,
}

impl Agent {
    pub fn new(key_type: KeyType) -> Self {
        Self::with_profile(key_type, Profile::onceguard())
    }

    pub fn with_profile(key_type: KeyType, profile: Profile) -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).unwrap();
        // Less than the order of every curve.
        secret[0] = 1;
        let key = SigningKey::from_bytes(key_type, &secret).unwrap();
        let did = did_key::encode(key.public_key()).unwrap();
        let key_id = DidUrl::parse(did.as_str()).unwrap();
        Self { did, signer: Signer { key, key_id, profile } }
    }

    /// Sends a signed request to the service.
    pub fn request(&self, app: &TestApp, method: &str, path: &str) -> HttpRequest {
        let message = Message::new(method, &format!("{}{path}", app.base()));
        message.signed(self, app.store().clock().now()).to_http(&app.anybody())
    }

    /// The same with a JSON body.
    pub fn json(&self, app: &TestApp, method: &str, path: &str, body: &Value) -> HttpRequest {
        let message = Message::new(method, &format!("{}{path}", app.base())).json(body);
        message.signed(self, app.store().clock().now()).to_http(&app.anybody())
    }
}

/// A request that can be signed, and then changed.
#[derive(Debug, Clone)]
pub struct Message {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn new(method: &str, url: &str) -> Self {
        let (method, url) = (method.to_owned(), url.to_owned());
        Self { method, url, headers: Vec::new(), body: Vec::new() }
    }

    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.with("content-type", "application/json")
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(line, _)| !line.eq_ignore_ascii_case(name));
        self
    }

    #[must_use]
    pub fn edit(self, name: &str, from: &str, to: &str) -> Self {
        let value = self.header(name);
        assert!(value.contains(from), "{value} has no {from}");
        let value = value.replacen(from, to, 1);
        self.without(name).with(name, &value)
    }

    pub fn header(&self, name: &str) -> String {
        let mut lines = self.headers.iter().filter(|(line, _)| line.eq_ignore_ascii_case(name));
        lines.next().unwrap_or_else(|| panic!("no {name}: {self:?}")).1.clone()
    }

    /// Signed with a fresh nonce.
    #[must_use]
    pub fn signed(self, agent: &Agent, now: Timestamp) -> Self {
        let nonce = format!("nonce-of-an-agent-{}", unique());
        self.signed_with(&agent.signer, &nonce, now)
    }

    #[must_use]
    pub fn signed_with(mut self, signer: &Signer, nonce: &str, now: Timestamp) -> Self {
        let lines = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let headers: Vec<_> = lines.collect();
        let request = Request {
            method: &self.method,
            target: Target::parse(&self.url).unwrap(),
            headers: &headers,
            body: Body::Seen(&self.body),
        };
        let fields = signer.sign(&request, &Nonce::parse(nonce).unwrap(), now).unwrap();
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.headers.extend(fields);
        self
    }

    /// Signed by an Ed25519 agent over these components, given by identifier and value, as another
    /// signer might choose them.
    #[must_use]
    pub fn signed_over(self, agent: &Agent, now: Timestamp, covered: &[(&str, &str)]) -> Self {
        let created = now.timestamp();
        let identifiers: Vec<_> = covered.iter().map(|(identifier, _)| *identifier).collect();
        let input = format!(
            "({});created={created};expires={};nonce=\"nonce-of-an-agent-{}\";keyid=\"{}\";tag=\"onceguard\"",
            identifiers.join(" "),
            created + 300,
            unique(),
            agent.did,
        );
        let lines = covered.iter().map(|(identifier, value)| format!("{identifier}: {value}\n"));
        let base = format!("{}\"@signature-params\": {input}", lines.collect::<String>());
        let key = ed25519_dalek::SigningKey::from_bytes(&agent.signer.key.expose_bytes());
        let signature = ed25519_dalek::Signer::sign(&key, base.as_bytes()).to_bytes();
        self.with("signature-input", &format!("sig1={input}"))
            .with("signature", &format!("sig1=:{}:", STANDARD.encode(signature)))
    }

    /// In the form of `POST /v1/verify`.
    pub fn to_verify(&self) -> Value {
        let mut body = json!({"method": self.method, "url": self.url, "headers": self.headers});
        if !self.body.is_empty() {
            body["body"] = STANDARD.encode(&self.body).into();
        }
        body
    }

    /// In the form that is sent to the service itself.
    pub fn to_http(&self, caller: &Caller) -> HttpRequest {
        self.to_path(caller, self.url.strip_prefix(caller.base()).expect("a URL of the service"))
    }

    /// In the form that is sent to the service, even when another URL was signed.
    pub fn to_path(&self, caller: &Caller, path: &str) -> HttpRequest {
        let mut request = caller.request(&self.method, path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if self.body.is_empty() { request } else { request.body(self.body.clone()) }
    }
}
