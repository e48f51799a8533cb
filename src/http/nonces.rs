//! Nonces of one session: claim one, or ask whether one was used.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::Call;
use super::fields::text;
use super::idempotency::{IDEMPOTENCY_KEY, IdempotencyKey, mark_replayed};
use super::problem::Problem;
use super::time::Time;
use super::values::json;
use crate::domain::{Accepted, Claim, Code, Nonce, Outcome, Refusal, Scope, SessionId, UsedNonce};

/// A nonce to claim.
#[derive(ToSchema)]
#[schema(as = NewNonce)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    /// 1 to 255 visible ASCII characters.
    #[schema(value_type = String, example = "n-0S6_WzA2Mj")]
    nonce: Nonce,
}

/// A nonce that was accepted just now.
#[derive(Serialize, ToSchema)]
#[schema(as = AcceptedNonce)]
pub(super) struct AcceptedView<'a> {
    #[schema(example = "n-0S6_WzA2Mj")]
    nonce: &'a str,
    #[schema(example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")]
    session_id: String,
    used_at: Time,
    /// The session's deadline: until then at least it stays spent.
    expires_at: Time,
}

/// Claim a nonce in a session: it is accepted once, durably.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/nonces", operation_id = "claim_nonce", tag = "nonces",
    params(
        ("id" = String, Path, description = "The session: a UUID, or its 22-character base64url form.",
            example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55"),
        ("Idempotency-Key" = Option<String>, Header, example = "c0f1b2d8-6a0e-4c0b-8a34-3f6f3f1f7f10",
            description = "Fresh and random. The same claim, repeated with it within 10 minutes, gets the first outcome."),
    ),
    request_body(content = Body, example = json!({"nonce": "n-0S6_WzA2Mj"})),
    responses((status = 201, description = "Accepted, and committed to disk.", body = AcceptedView,
        headers(("Idempotency-Replayed" = String, description = "true when an earlier call with the same key made the claim.")))),
    extensions(("x-errors" = json!([
        "nonce_replayed", "session_not_found", "session_ended", "session_expired", "did_revoked",
        "claim_quota_reached", "overloaded", "outcome_unknown",
    ]))),
)]
pub(super) async fn claim(call: Call) -> Result<HttpResponse, Problem> {
    call.state.claims.must_have_room_in_session()?;
    let (session, body, key) = read(&call)?;
    call.must_be_party(session).await?;
    let nonce = body.nonce;
    let claim = Claim {
        scope: Scope::Session(session),
        nonce: nonce.clone(),
        idempotency: key.map(|key| key.digest(&call.caller, 0)),
    };
    let outcome = call.state.claims.claim(vec![claim]).await?.into_iter().next();
    match outcome.ok_or_else(|| Problem::internal("a claim has no outcome"))? {
        Outcome::Accepted(Accepted { used_at, expires_at, repeated }) => {
            let view = AcceptedView {
                nonce: nonce.as_str(),
                session_id: session.to_string(),
                used_at: Time(used_at),
                expires_at: Time(expires_at),
            };
            let mut response = json(StatusCode::CREATED, &view)?;
            if repeated {
                mark_replayed(&mut response);
            }
            Ok(response)
        }
        Outcome::Replayed { first_used_at } => Err(Problem::replayed(first_used_at)),
        Outcome::Refused(refusal) => Err(refused(refusal)),
    }
}

fn read(call: &Call) -> Result<(SessionId, Body, Option<IdempotencyKey>), Problem> {
    let mut input = call.json()?;
    let id = input.path("id", SessionId::parse);
    let key = input.header(IDEMPOTENCY_KEY, IdempotencyKey::parse);
    let nonce = input.required("nonce", text(Nonce::parse));
    input.finish(|| Some((id?, Body { nonce: nonce? }, key)))
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::SessionNotFound => Problem::session_not_found(),
        Refusal::SessionOver(end) => Problem::over(end),
        Refusal::DidRevoked => Problem::new(Code::DidRevoked, "a party of the session is revoked"),
        Refusal::ClaimQuotaReached | Refusal::SessionUsedUp => Problem::new(
            Code::ClaimQuotaReached,
            "the session has used all of its max_claims; open a new one",
        )
        .for_good(),
        Refusal::NotAParty => Problem::internal("a session's claim has no signer"),
        Refusal::Expired | Refusal::IssuedAhead | Refusal::IssuedBeforeRestore => {
            Problem::internal("a session's claim has no times of its own")
        }
    }
}

/// A nonce that was used.
#[derive(Serialize, ToSchema)]
#[schema(as = UsedNonce)]
pub(super) struct UsedView<'a> {
    #[schema(example = "n-0S6_WzA2Mj")]
    nonce: &'a str,
    used_at: Time,
    expires_at: Time,
}

impl<'a> UsedView<'a> {
    pub(super) fn of(nonce: &'a Nonce, used: &UsedNonce) -> Self {
        let UsedNonce { used_at, expires_at, .. } = *used;
        Self { nonce: nonce.as_str(), used_at: Time(used_at), expires_at: Time(expires_at) }
    }
}

/// Was a nonce used? Never a licence to act: only a claim is.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/nonces/{nonce}", operation_id = "read_nonce", tag = "nonces",
    params(
        ("id" = String, Path, description = "The session: a UUID, or its 22-character base64url form.",
            example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55"),
        ("nonce" = String, Path, description = "Percent-encoded.", example = "n-0S6_WzA2Mj"),
    ),
    responses((status = 200, description = "It was used.", body = UsedView)),
    extensions(("x-errors" = json!(["nonce_unused"]))),
)]
pub(super) async fn used(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let id = input.path("id", SessionId::parse);
    let nonce = input.path("nonce", Nonce::parse);
    let (id, nonce) = input.finish(|| Some((id?, nonce?)))?;
    let used = call.state.claims.used(id, &nonce).await?.ok_or_else(|| {
        Problem::new(Code::NonceUnused, "this nonce has not been claimed in this session")
    })?;
    json(StatusCode::OK, &UsedView::of(&nonce, &used))
}
