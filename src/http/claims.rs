//! `POST /v1/claims`: many claims at once, each decided on its own.

use std::borrow::Cow;
use std::collections::HashSet;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use chrono::Duration;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::Call;
use super::fields::{Fields, Invalid, array, text};
use super::idempotency::{IDEMPOTENCY_KEY, IdempotencyKey, mark_replayed};
use super::node::Node;
use super::problem::Problem;
use super::time::{Time, time};
use super::values::{bytes, json};
use super::words;
use crate::domain::{
    Accepted, Claim, Code, Did, MAX_EXPIRY_AHEAD_SECONDS, Namespace, Nonce, Outcome, Refusal,
    Scope, SessionId, Timestamp,
};

/// The most claims in one call.
const MAX_CLAIMS: usize = 1000;

/// Claims to decide.
#[derive(ToSchema)]
#[schema(as = Claims)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    /// 1 to 1000; one that is malformed refuses all.
    #[schema(value_type = Vec<NewClaim>)]
    claims: Vec<Claim>,
}

/// One claim: in a session, by a signer, or in a namespace.
#[derive(ToSchema)]
#[schema(as = NewClaim)]
#[allow(dead_code, reason = "the form of the body, for the OpenAPI document")]
#[serde(untagged)]
pub(super) enum NewClaim {
    Session {
        #[schema(example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")]
        session_id: String,
        /// 1 to 255 visible ASCII characters.
        #[schema(example = "n-0S6_WzA2Mj")]
        nonce: String,
    },
    Signer {
        #[schema(example = "did:web:client.example")]
        signer: String,
        /// 1 to 255 visible ASCII characters.
        #[schema(example = "n-0S6_WzA2Mj")]
        nonce: String,
        /// When the signed message stops being acceptable, at most 24 h ahead.
        expires_at: Time,
        /// When the signer made the message, by the message's own, authenticated word; never the
        /// time of this call. After a restore of the database, claims without it are refused for
        /// a day.
        #[schema(nullable = false)]
        issued_at: Option<Time>,
    },
    Namespace {
        /// 1 to 255 visible ASCII characters.
        #[schema(example = "https://issuer.example")]
        namespace: String,
        /// 1 to 255 visible ASCII characters. Instead of it, `nonce_base64` takes 1 to 4096 bytes of
        /// any kind, in standard padded base64.
        #[schema(example = "9f2c6a1e")]
        nonce: String,
        /// When the id stops being acceptable, at most 24 h ahead.
        expires_at: Time,
        /// As for a signer.
        #[schema(nullable = false)]
        issued_at: Option<Time>,
    },
}

/// The outcomes, in the order of the claims.
#[derive(Serialize, ToSchema)]
#[schema(as = ClaimResults)]
pub(super) struct ResultsView {
    results: Vec<ResultView>,
}

/// The outcome of one claim.
#[derive(Serialize, ToSchema)]
#[schema(as = ClaimResult)]
pub(super) struct ResultView {
    #[schema(value_type = words::Outcome, example = "accepted")]
    outcome: &'static str,
    /// With `accepted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    used_at: Option<Time>,
    /// With `replayed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    first_used_at: Option<Time>,
}

impl ResultView {
    fn of(outcome: &Outcome) -> Self {
        let (used_at, first_used_at) = match outcome {
            Outcome::Accepted(Accepted { used_at, .. }) => (Some(Time(*used_at)), None),
            Outcome::Replayed { first_used_at } => (None, Some(Time(*first_used_at))),
            Outcome::Refused(_) => (None, None),
        };
        Self { outcome: outcome.as_str(), used_at, first_used_at }
    }
}

/// Claim many nonces at once, each on its own.
#[utoipa::path(
    post, path = "/v1/claims", operation_id = "claim_nonces", tag = "nonces",
    params(("Idempotency-Key" = Option<String>, Header, example = "c0f1b2d8-6a0e-4c0b-8a34-3f6f3f1f7f10",
        description = "Fresh and random. The same claims, repeated with it within 10 minutes, get the first outcomes.")),
    request_body(content = Body, example = json!({"claims": [
        {"session_id": "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55", "nonce": "n-0S6_WzA2Mj"},
        {"signer": "did:web:client.example", "nonce": "q8f1", "expires_at": "2026-01-02T03:09:05Z", "issued_at": "2026-01-02T03:04:05Z"},
    ]})),
    responses((status = 200, description = "An outcome for each claim, in order.", body = ResultsView,
        headers(("Idempotency-Replayed" = String, description = "true when an earlier call with the same key made any of the claims.")),
        example = json!({"results": [
            {"outcome": "accepted", "used_at": "2026-01-02T03:04:05.678901Z"},
            {"outcome": "replayed", "first_used_at": "2026-01-02T03:04:01.000213Z"},
        ]}))),
    extensions(("x-errors" = json!(["overloaded", "outcome_unknown"]))),
)]
pub(super) async fn claim(call: Call) -> Result<HttpResponse, Problem> {
    call.state.claims.must_have_room()?;
    let (body, key) = read(&call)?;
    let mut claims = body.claims;
    must_be_in_its_namespace(&call, &claims)?;
    let hidden = hidden_sessions(&call, &claims).await?;
    if let Some(key) = key {
        for (index, claim) in claims.iter_mut().enumerate() {
            claim.idempotency = Some(key.digest(&call.caller, index));
        }
    }
    let outcomes = outcomes(&call, claims, &hidden).await?;
    let repeated =
        outcomes.iter().any(|o| matches!(o, Outcome::Accepted(Accepted { repeated: true, .. })));
    let results = outcomes.iter().map(ResultView::of).collect();
    let mut response = json(StatusCode::OK, &ResultsView { results })?;
    if repeated {
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// A token that is bound to a namespace claims there only.
fn must_be_in_its_namespace(call: &Call, claims: &[Claim]) -> Result<(), Problem> {
    let Some(binding) = call.caller.binding() else { return Ok(()) };
    let is_inside = |claim: &Claim| matches!(&claim.scope, Scope::Namespace { namespace, .. } if *namespace == binding.namespace);
    if claims.iter().all(is_inside) { Ok(()) } else { Err(Problem::outside(binding)) }
}

/// The sessions among the claims that the caller may not know of. For an agent they are those of
/// others, and those that do not exist: it cannot tell which.
async fn hidden_sessions(call: &Call, claims: &[Claim]) -> Result<HashSet<SessionId>, Problem> {
    let mut sessions = HashSet::new();
    if call.caller.agent().is_none() {
        return Ok(sessions);
    }
    for claim in claims {
        match claim.scope {
            Scope::Session(id) => sessions.insert(id),
            Scope::Signer { .. } | Scope::Namespace { .. } => {
                return Err(Problem::new(
                    Code::Forbidden,
                    "an agent claims in sessions: its own signatures are claimed by being used",
                ));
            }
        };
    }
    let mut hidden = HashSet::new();
    for id in sessions {
        let session = call.state.sessions.read(id).await?;
        if !session.is_some_and(|session| call.caller.may_know(&session)) {
            hidden.insert(id);
        }
    }
    Ok(hidden)
}

/// The outcomes in the order of the claims. In a hidden session nothing is claimed.
async fn outcomes(
    call: &Call,
    mut claims: Vec<Claim>,
    hidden: &HashSet<SessionId>,
) -> Result<Vec<Outcome>, Problem> {
    if hidden.is_empty() {
        return Ok(call.state.claims.claim(claims).await?);
    }
    let is_hidden =
        |claim: &Claim| matches!(claim.scope, Scope::Session(id) if hidden.contains(&id));
    let which: Vec<bool> = claims.iter().map(is_hidden).collect();
    claims.retain(|claim| !is_hidden(claim));
    let mut decided = call.state.claims.claim(claims).await?.into_iter();
    let outcomes = which.into_iter().map(|is_hidden| {
        if is_hidden { Some(Outcome::Refused(Refusal::SessionNotFound)) } else { decided.next() }
    });
    let outcomes: Option<Vec<_>> = outcomes.collect();
    outcomes.ok_or_else(|| Problem::internal("a claim has no outcome"))
}

fn read(call: &Call) -> Result<(Body, Option<IdempotencyKey>), Problem> {
    let latest = Latest::of(call);
    let mut input = call.json()?;
    let key = input.header(IDEMPOTENCY_KEY, IdempotencyKey::parse);
    let claims = input.required("claims", array(1..=MAX_CLAIMS, |node| one(node, latest)));
    input.finish(|| Some((Body { claims: claims? }, key)))
}

/// The latest times that a claim may have.
#[derive(Clone, Copy)]
pub(super) struct Latest {
    expires_at: Timestamp,
    /// How far ahead that is, by the caller's token.
    bound_to_seconds: Option<u32>,
    issued_at: Timestamp,
}

impl Latest {
    pub(super) fn of(call: &Call) -> Self {
        let now = call.state.clock.now();
        let skew = call.state.config.signatures.skew();
        let bound_to_seconds = call.caller.binding().map(|binding| binding.max_ttl_seconds);
        let seconds = bound_to_seconds.unwrap_or(MAX_EXPIRY_AHEAD_SECONDS);
        let expires_at = now + Duration::seconds(seconds.into());
        Self { expires_at, bound_to_seconds, issued_at: now + skew }
    }

    pub(super) fn expiry(self, text: &str) -> Result<Timestamp, Cow<'static, str>> {
        let at = time(text)?;
        match self.bound_to_seconds {
            _ if at <= self.expires_at => Ok(at),
            None => Err("must be at most 24 hours ahead".into()),
            Some(seconds) => Err(format!(
                "must be at most {seconds} seconds ahead: the token was made with this --max-ttl"
            )
            .into()),
        }
    }

    pub(super) fn issue(self, text: &str) -> Result<Timestamp, &'static str> {
        let at = time(text)?;
        if at <= self.issued_at { Ok(at) } else { Err("must not be in the future") }
    }
}

fn one(node: Node<'_>, latest: Latest) -> Result<Claim, Invalid> {
    let mut fields = Fields::of(node)?;
    let scopes = ["session_id", "signer", "namespace"].into_iter().filter(|name| fields.has(name));
    if scopes.count() > 1 {
        return Err("must have one of session_id, signer and namespace, not several".into());
    }
    let (scope, nonce);
    if fields.has("signer") {
        nonce = fields.required("nonce", text(Nonce::parse));
        let did = fields.required("signer", text(Did::parse));
        let times = times(&mut fields, latest);
        scope = did.zip(times).map(|(did, (expires_at, issued_at))| Scope::Signer {
            did,
            expires_at,
            issued_at,
            session: None,
        });
    } else if fields.has("namespace") {
        nonce = nonce_of_any_kind(&mut fields);
        let namespace = fields.required("namespace", text(Namespace::parse));
        let times = times(&mut fields, latest);
        scope = namespace.zip(times).map(|(namespace, (expires_at, issued_at))| Scope::Namespace {
            namespace,
            expires_at,
            issued_at,
        });
    } else {
        nonce = fields.required("nonce", text(Nonce::parse));
        scope = fields.required("session_id", text(SessionId::parse)).map(Scope::Session);
    }
    fields.finish(|| Some(Claim { scope: scope?, nonce: nonce?, idempotency: None }))
}

/// When the nonce expires, and when it was issued.
pub(super) fn times(
    fields: &mut Fields<'_>,
    latest: Latest,
) -> Option<(Timestamp, Option<Timestamp>)> {
    let expires_at = fields.required("expires_at", text(|text| latest.expiry(text)));
    let issued_at = fields.optional("issued_at", text(|text| latest.issue(text)));
    expires_at.map(|expires_at| (expires_at, issued_at))
}

/// `nonce`, or `nonce_base64` where it is not visible ASCII, or longer.
pub(super) fn nonce_of_any_kind(fields: &mut Fields<'_>) -> Option<Nonce> {
    if !fields.has("nonce_base64") {
        return fields.required("nonce", text(Nonce::parse));
    }
    fields.optional("nonce", |_| Err::<(), _>("cannot be combined with nonce_base64".into()));
    let of_bytes = |node: Node<'_>| -> Result<_, Invalid> {
        Nonce::of_bytes(&bytes(node)?).map_err(|error| error.to_string().into())
    };
    fields.required("nonce_base64", of_bytes)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn read_one(json: &str) -> Result<Claim, Vec<String>> {
        let expires_at = time("2026-01-02T00:00:00Z").unwrap();
        let issued_at = time("2026-01-01T00:01:00Z").unwrap();
        let latest = Latest { expires_at, bound_to_seconds: None, issued_at };
        one(Node::parse(json.as_bytes()).unwrap(), latest)
            .map_err(|invalid| invalid.into_errors().into_iter().map(|e| e.pointer).collect())
    }

    #[test]
    fn a_claim_is_a_session_s_or_a_signer_s() {
        let id = SessionId(Uuid::now_v7());
        let claim = read_one(&format!(r#"{{"session_id":"{id}","nonce":"n"}}"#)).unwrap();
        assert_eq!(claim.scope, Scope::Session(id));
        let json = r#"{"signer":"did:web:a","nonce":"n","expires_at":"2026-01-02T00:00:00Z"}"#;
        let did = Did::parse("did:web:a").unwrap();
        let expires_at = time("2026-01-02T00:00:00Z").unwrap();
        let scope =
            |issued_at| Scope::Signer { did: did.clone(), expires_at, issued_at, session: None };
        assert_eq!(read_one(json).unwrap().scope, scope(None));
        let json = json.replace('}', r#","issued_at":"2026-01-01T00:01:00Z"}"#);
        let issued_at = time("2026-01-01T00:01:00Z").unwrap();
        assert_eq!(read_one(&json).unwrap().scope, scope(Some(issued_at)));
    }

    #[test]
    fn a_malformed_claim_says_where() {
        for (json, pointers) in [
            ("{}", &["/nonce", "/session_id"][..]),
            (r#"{"session_id":"x","nonce":"a b"}"#, &["/nonce", "/session_id"]),
            (r#"{"signer":"did:web:a","nonce":"n"}"#, &["/expires_at"]),
            (
                r#"{"signer":"x","nonce":"n","expires_at":"2026-01-02T00:00:00.000001Z"}"#,
                &["/signer", "/expires_at"],
            ),
            (
                r#"{"signer":"did:web:a","nonce":"n","expires_at":"2026-01-02T00:00:00Z","issued_at":"2026-01-01T00:01:00.000001Z"}"#,
                &["/issued_at"],
            ),
            (
                r#"{"session_id":"x","nonce":"n","issued_at":"2026-01-01T00:00:00Z"}"#,
                &["/session_id", "/issued_at"],
            ),
            (r#"{"signer":"did:web:a","session_id":"x","nonce":"n"}"#, &[""]),
            ("[]", &[""]),
        ] {
            assert_eq!(read_one(json).unwrap_err(), pointers, "{json}");
        }
        let id = SessionId(Uuid::now_v7());
        let json = format!(r#"{{"session_id":"{id}","nonce":"n","expires_at":"x"}}"#);
        assert_eq!(read_one(&json).unwrap_err(), ["/expires_at"]);
    }
}
