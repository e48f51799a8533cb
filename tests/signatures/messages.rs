//! Requests that can be taken apart: signed by our signer, or with a `Signature-Input` written by
//! hand and a signature that is right for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Duration;
use onceguard::domain::{DidUrl, KeyType, Nonce, Timestamp};
use onceguard::resolvers::did_key;
use onceguard::signatures::{
    Body, Profile, Refused, Request, Signer, SigningKey, Target, VerifyingKey, check,
};

pub(crate) const NONCE: &str = "0123456789abcdef";

/// 2026-11-20 12:00:00 UTC.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_timestamp(1_795_176_000, 0).unwrap()
}

pub(crate) fn seconds(count: i64) -> Duration {
    Duration::seconds(count)
}

pub(crate) fn key(key_type: KeyType) -> SigningKey {
    SigningKey::from_bytes(key_type, &[7; 32]).unwrap()
}

pub(crate) fn verifying(key: &SigningKey) -> VerifyingKey {
    VerifyingKey::new(key.public_key()).unwrap()
}

/// The key id that says no more than the DID.
pub(crate) fn key_id(key: &SigningKey) -> DidUrl {
    let did = did_key::encode(key.public_key()).unwrap();
    DidUrl::parse(did.as_str()).unwrap()
}

pub(crate) fn signer(key_type: KeyType, profile: Profile) -> Signer {
    let key = key(key_type);
    Signer { key_id: key_id(&key), key, profile }
}

pub(crate) fn nonce() -> Nonce {
    Nonce::parse(NONCE).unwrap()
}

/// A request that owns its parts.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// `None` where the body is not seen.
    pub(crate) body: Option<Vec<u8>>,
}

impl Message {
    pub(crate) fn get() -> Self {
        Self {
            method: "GET".to_owned(),
            url: "https://service.example/orders?id=1".to_owned(),
            headers: vec![("Host".to_owned(), b"service.example".to_vec())],
            body: Some(Vec::new()),
        }
    }

    pub(crate) fn post() -> Self {
        Self {
            method: "POST".to_owned(),
            body: Some(b"{\"amount\": 1}".to_vec()),
            ..Self::get().with("Content-Type", "application/json")
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(line, _)| !line.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn header(&self, name: &str) -> String {
        let mut lines = self.headers.iter().filter(|(line, _)| line.eq_ignore_ascii_case(name));
        let (_, value) = lines.next().unwrap();
        assert!(lines.next().is_none(), "several {name}");
        String::from_utf8(value.clone()).unwrap()
    }

    /// Changes the only line of a field.
    pub(crate) fn edit(self, name: &str, edit: impl FnOnce(String) -> String) -> Self {
        let value = edit(self.header(name));
        self.without(name).with(name, &value)
    }

    pub(crate) fn as_request<T>(&self, use_it: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        use_it(&Request {
            method: &self.method,
            target: Target::parse(&self.url).unwrap(),
            headers: &headers,
            body: self.body.as_deref().map_or(Body::Unseen, Body::Seen),
        })
    }

    /// Signed by our signer, now.
    pub(crate) fn signed(self, signer: &Signer) -> Self {
        let fields =
            self.as_request(|request| signer.sign(request, &nonce(), now())).expect("signable");
        fields.iter().fold(self, |message, (name, value)| message.with(name, value))
    }

    /// All checks that need no I/O, with this key, now.
    pub(crate) fn judge(&self, profile: &Profile, key: &VerifyingKey) -> Result<(), Refused> {
        self.judge_at(profile, key, now())
    }

    pub(crate) fn judge_at(
        &self,
        profile: &Profile,
        key: &VerifyingKey,
        now: Timestamp,
    ) -> Result<(), Refused> {
        self.as_request(|request| check(request, profile, now)?.with_key(key)?.verify())
    }

    /// With this member of `Signature-Input`, and the Ed25519 signature that belongs to it: what
    /// a signer makes that follows the RFC, but not our profile.
    pub(crate) fn signed_as(self, input: &str) -> Self {
        let base = self.base(input);
        let secret = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let signature = ed25519_dalek::Signer::sign(&secret, base.as_bytes());
        self.with_signature(input, &signature.to_bytes())
    }

    pub(crate) fn with_signature(self, input: &str, signature: &[u8]) -> Self {
        self.with("Signature-Input", &format!("sig={input}"))
            .with("Signature", &format!("sig=:{}:", STANDARD.encode(signature)))
    }

    /// The signature base of a member of `Signature-Input`, whatever it lacks: it is taken from
    /// a profile that asks for nothing.
    pub(crate) fn base(&self, input: &str) -> String {
        let mut lax = Profile::onceguard();
        lax.tag = None;
        lax.min_nonce_len = 0;
        lax.max_window = Duration::days(100_000);
        lax.skew = Duration::days(100_000);
        lax.default_lifetime = Some(seconds(1));
        lax.coverage.always.clear();
        lax.coverage.with_body.clear();
        lax.coverage.when_sent.clear();
        // The components are the input's; the parameters are replaced in the base afterwards.
        let (components, _) = input.split_once(')').expect("a list of components");
        let stand_in = format!("{components});created=1;nonce=\"n\";keyid=\"did:x:y\"");
        let base = self.clone().with_signature(&stand_in, b"").as_request(|request| {
            check(request, &lax, now()).expect("components of a request").signature_base()
        });
        let base = base.expect("values for all components");
        let (components, _) = base.rsplit_once("\"@signature-params\": ").unwrap();
        format!("{components}\"@signature-params\": {input}")
    }
}

/// A member of `Signature-Input` whose every part can be left out or replaced.
pub(crate) struct Input<'a> {
    pub(crate) components: &'a str,
    pub(crate) created: Option<i64>,
    pub(crate) expires: Option<i64>,
    pub(crate) nonce: Option<&'a str>,
    pub(crate) alg: Option<&'a str>,
    pub(crate) keyid: Option<String>,
    pub(crate) tag: Option<&'a str>,
}

impl Input<'_> {
    /// What the profile `onceguard` accepts for a request without body.
    pub(crate) fn good() -> Self {
        Self {
            components: "\"@method\" \"@target-uri\"",
            created: Some(now().timestamp()),
            expires: Some(now().timestamp() + 300),
            nonce: Some(NONCE),
            alg: None,
            keyid: Some(key_id(&key(KeyType::Ed25519)).to_string()),
            tag: Some("onceguard"),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("({})", self.components);
        for (name, value) in [("created", self.created), ("expires", self.expires)] {
            text.extend(value.map(|value| format!(";{name}={value}")));
        }
        for (name, value) in [
            ("nonce", self.nonce),
            ("alg", self.alg),
            ("keyid", self.keyid.as_deref()),
            ("tag", self.tag),
        ] {
            text.extend(value.map(|value| format!(";{name}=\"{value}\"")));
        }
        text
    }
}
