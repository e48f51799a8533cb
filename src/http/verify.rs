//! `POST /v1/verify`: the whole check of a request that the caller received. A refusal is 403
//! whatever the step, so that 401 always speaks of the caller itself.

use actix_web::HttpResponse;
use actix_web::http::header::HeaderName;
use actix_web::http::{Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::call::Call;
use super::code::Meaning;
use super::exchange::Exchange;
use super::fields::{Invalid, array, mistyped, text};
use super::idempotency::{IDEMPOTENCY_KEY, IdempotencyKey, mark_replayed};
use super::node::Node;
use super::problem::Problem;
use super::time::Time;
use super::values::{bytes, json};
use crate::domain::{Code, SessionId};
use crate::services::{Case, Denied, Verdict};
use crate::signatures::{Body, NamedSession, Request, Target};

/// The most lines of a request's head.
const MAX_HEADERS: usize = 1000;

/// A request as it was received.
#[derive(ToSchema)]
#[schema(as = ReceivedRequest)]
#[serde(deny_unknown_fields)]
pub(super) struct Received {
    #[schema(example = "POST")]
    method: String,
    /// The whole URL that the caller answers for, verbatim: nothing is decoded or normalised.
    #[schema(example = "https://service.example/orders?id=1")]
    url: String,
    /// Name and value of each line, in the order received.
    #[schema(value_type = Vec<Vec<String>>, example = json!([["Content-Type", "application/json"]]))]
    headers: Vec<(String, String)>,
    /// In standard padded base64; left out when there was none.
    #[schema(value_type = Option<String>, format = Byte, nullable = false)]
    body: Option<Vec<u8>>,
    /// The name of a profile: `onceguard` (the default), `sage`, or one of the configuration.
    #[schema(example = "onceguard", nullable = false)]
    profile: Option<String>,
    /// The session that the request belongs to: it must be live, and the signer a party. Left out,
    /// it is the one that the request's `x-session-id` names; both must be the same.
    #[schema(value_type = Option<String>, example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55", nullable = false)]
    session_id: Option<SessionId>,
}

impl Received {
    /// All that the call says, for its `Idempotency-Key`: the verdict on another request is never
    /// repeated.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let session = self.session_id.as_ref().map(|SessionId(id)| &id.as_bytes()[..]);
        let given = [self.profile.as_deref().map(str::as_bytes), self.body.as_deref(), session];
        // What is left out differs from what is empty.
        let given = given.into_iter().flat_map(|part| match part {
            None => [&b"0"[..], b""],
            Some(part) => [&b"1"[..], part],
        });
        let lines = self.headers.iter();
        let lines = lines.flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        [self.method.as_bytes(), self.url.as_bytes()].into_iter().chain(given).chain(lines)
    }
}

/// A request that passed every check. Its nonce is spent.
#[derive(Serialize, ToSchema)]
#[schema(as = Verdict)]
pub(super) struct View<'a> {
    /// Who signed.
    #[schema(example = "did:web:client.example")]
    did: &'a str,
    #[schema(example = "did:web:client.example#key-1")]
    keyid: &'a str,
    /// `ed25519`, `ecdsa-p256-sha256`, `ES256K` or `es256k`.
    #[schema(example = "ed25519")]
    alg: &'a str,
    #[schema(example = "onceguard")]
    profile: &'a str,
    created: Time,
    expires: Time,
    #[schema(example = "c2lnbmVkIG9uY2UgYnkgbWU")]
    nonce: &'a str,
    /// What the signature covers. Nothing else of the request is vouched for.
    #[schema(example = json!(["\"@method\"", "\"@target-uri\""]))]
    covered: &'a [String],
    /// The session that the request belongs to; null when it names none.
    #[schema(required = true)]
    session_id: Option<String>,
}

impl<'a> View<'a> {
    fn of(verdict: &'a Verdict) -> Self {
        Self {
            did: verdict.did.as_str(),
            keyid: &verdict.keyid,
            alg: verdict.alg,
            profile: &verdict.profile,
            created: Time(verdict.created),
            expires: Time(verdict.expires),
            nonce: &verdict.nonce,
            covered: &verdict.covered,
            session_id: verdict.session.map(|id| id.to_string()),
        }
    }
}

/// Judge a signed request, and spend its nonce if it passes.
#[utoipa::path(
    post, path = "/v1/verify", operation_id = "verify_request", tag = "verdicts",
    params(("Idempotency-Key" = Option<String>, Header, example = "c0f1b2d8-6a0e-4c0b-8a34-3f6f3f1f7f10",
        description = "Fresh and random, for each request that was received; never a header of that request. The same call, repeated with it within 10 minutes, gets the verdict again instead of signature_replayed.")),
    request_body(content = Received, example = json!({
        "method": "GET",
        "url": "https://service.example/orders?id=1",
        "headers": [
            ["Signature-Input", "sig1=(\"@method\" \"@target-uri\");created=1767323045;expires=1767323345;nonce=\"c2lnbmVkIG9uY2UgYnkgbWU\";keyid=\"did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw\";tag=\"onceguard\""],
            ["Signature", "sig1=:kO7gC0b0Yw3bN1q9o7m2m6mFhE0m3b5Jt2v1qU8yWc9o0n7fGkQ3yXrJ5l1sV2dT8aLzP4eH6uBiR9wNxC0DAg==:"],
        ],
    })),
    responses((status = 200, description = "Every check passed.", body = View,
        headers(("Idempotency-Replayed" = String, description = "true when an earlier call with the same key spent the nonce.")))),
    extensions(("x-errors" = json!([
        "403 signature_required", "403 signature_malformed", "403 signature_tag_invalid",
        "403 signature_params_incomplete", "403 signature_alg_not_allowed",
        "403 signature_window_invalid", "403 signature_components_incomplete",
        "403 signature_key_unknown", "403 signature_key_revoked", "403 signature_invalid",
        "403 signature_digest_mismatch", "403 session_not_found", "403 session_ended",
        "403 session_expired", "403 signature_not_a_party", "403 signature_replayed",
        "403 signature_before_restore", "403 claim_quota_reached", "signature_key_unavailable",
        "signature_revocation_stale", "overloaded", "outcome_unknown",
    ]))),
)]
pub(super) async fn verify(call: Call) -> Result<HttpResponse, Problem> {
    let (received, key) = read(&call)?;
    let target = Target::parse(&received.url)
        .map_err(|error| Problem::invalid_field("/url", error.to_string()))?;
    let headers: Vec<(&str, &[u8])> =
        received.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request = Request {
        method: &received.method,
        target,
        headers: &headers,
        body: Body::Seen(received.body.as_deref().unwrap_or_default()),
    };
    if let Some(id) = received.session_id
        && request.named_session().is_some_and(|named| named != NamedSession::Id(id))
    {
        let detail = "must be the x-session-id that the request has, once";
        return Err(Problem::invalid_field("/session_id", detail));
    }
    let profile = received.profile.as_deref();
    let exchange = Exchange::of(&call.request);
    let case = Case {
        request,
        profile,
        session: received.session_id,
        counts: true,
        peer: call.caller.peer(&call.request, &call.state.config.server),
        signers: None,
        repeat: key.map(|key| key.digest_of(&call.caller, received.parts())),
        seen: exchange.seen(),
    };
    match call.state.verdicts.judge(&case).await? {
        Ok(verdict) => {
            let mut response = json(StatusCode::OK, &View::of(&verdict))?;
            if verdict.repeated {
                mark_replayed(&mut response);
            }
            Ok(response)
        }
        Err(denied @ Denied::UnknownProfile(_)) => {
            Err(Problem::invalid_field("/profile", denied.to_string()))
        }
        Err(denied) => Err(Problem::denied(&denied, status)),
    }
}

/// A refusal is 403, so that 401 is always about the caller; what cannot be said is no refusal.
fn status(code: Code) -> StatusCode {
    match Meaning::of(code).status {
        StatusCode::SERVICE_UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    }
}

fn read(call: &Call) -> Result<(Received, Option<IdempotencyKey>), Problem> {
    let mut input = call.json()?;
    let key = input.header(IDEMPOTENCY_KEY, IdempotencyKey::parse);
    let method = input.required("method", text(method));
    let url = input.required("url", text(|url| Target::parse(url).map(|_| url.to_owned())));
    let headers = input.required("headers", array(0..=MAX_HEADERS, line));
    let body = input.optional("body", bytes);
    let profile = input.optional("profile", text(|name| Ok::<_, String>(name.to_owned())));
    let session_id = input.optional("session_id", text(SessionId::parse));
    input.finish(|| {
        let (method, url, headers) = (method?, url?, headers?);
        Some((Received { method, url, headers, body, profile, session_id }, key))
    })
}

fn method(text: &str) -> Result<String, &'static str> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be a method, such as GET"),
    }
}

/// Reads `[name, value]`.
fn line(node: Node<'_>) -> Result<(String, String), Invalid> {
    let items = match node {
        Node::Array(items) => items,
        other => return Err(mistyped("an array", &other)),
    };
    let [name, value] = <[Node<'_>; 2]>::try_from(items)
        .map_err(|items| format!("must be a name and a value, not {} items", items.len()))?;
    let mut invalid = Invalid::default();
    let name = text(field_name)(name).map_err(|inner| invalid.extend("/0", inner));
    let value = text(|value| Ok::<_, String>(value.to_owned()))(value)
        .map_err(|inner| invalid.extend("/1", inner));
    match (name, value) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(invalid),
    }
}

fn field_name(text: &str) -> Result<String, &'static str> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be the name of a header"),
    }
}
