//! Namespaces: scopes for ids that are used once and are no DID's nonces. They need not be made: a
//! namespace is there as soon as something is claimed in it.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::Call;
use super::claims::{Latest, nonce_of_any_kind, times};
use super::idempotency::{IDEMPOTENCY_KEY, IdempotencyKey, mark_replayed};
use super::nonces::UsedView;
use super::problem::Problem;
use super::time::Time;
use super::values::json;
use crate::domain::{Accepted, Claim, Code, Namespace, Nonce, Outcome, Refusal, Scope};

/// A nonce to claim in a namespace.
#[derive(ToSchema)]
#[schema(as = NamespaceClaim)]
#[allow(dead_code, reason = "the form of the body, for the OpenAPI document")]
pub(super) struct Body {
    /// 1 to 255 visible ASCII characters.
    #[schema(example = "9f2c6a1e", nullable = false)]
    nonce: Option<String>,
    /// Instead of `nonce`: 1 to 4096 bytes of any kind, in standard padded base64. Bytes that are a
    /// `nonce` are the same nonce.
    #[schema(format = Byte, nullable = false)]
    nonce_base64: Option<String>,
    /// When the id stops being acceptable, at most 24 h ahead: it is kept until then.
    expires_at: Time,
    /// When the id was issued, by the word of the message that carries it; never the time of this
    /// call. After a restore of the database, claims without it are refused for a day.
    #[schema(nullable = false)]
    issued_at: Option<Time>,
}

/// A nonce that was accepted in a namespace.
#[derive(Serialize, ToSchema)]
#[schema(as = NamespaceNonce)]
pub(super) struct AcceptedView<'a> {
    #[schema(example = "https://issuer.example")]
    namespace: &'a str,
    used_at: Time,
    expires_at: Time,
}

/// Claim a nonce in a namespace: an id that must be used once, such as a JWT's jti.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/nonces", operation_id = "claim_in_namespace", tag = "nonces",
    params(
        ("namespace" = String, Path, description = "1 to 255 visible ASCII characters, percent-encoded.",
            example = "webhooks"),
        ("Idempotency-Key" = Option<String>, Header, example = "c0f1b2d8-6a0e-4c0b-8a34-3f6f3f1f7f10",
            description = "Fresh and random. The same claim, repeated with it within 10 minutes, gets the first outcome."),
    ),
    request_body(content = Body, example = json!({"nonce": "9f2c6a1e", "expires_at": "2026-01-02T03:09:05Z"})),
    responses((status = 201, description = "Accepted, and committed to disk.", body = AcceptedView,
        headers(("Idempotency-Replayed" = String, description = "true when an earlier call with the same key made the claim.")))),
    extensions(("x-errors" = json!([
        "nonce_replayed", "issued_before_restore", "claim_quota_reached", "overloaded", "outcome_unknown",
    ]))),
)]
pub(super) async fn claim(call: Call) -> Result<HttpResponse, Problem> {
    call.state.claims.must_have_room()?;
    let (namespace, claim) = read(&call)?;
    let outcome = call.state.claims.claim(vec![claim]).await?.into_iter().next();
    match outcome.ok_or_else(|| Problem::internal("a claim has no outcome"))? {
        Outcome::Accepted(Accepted { used_at, expires_at, repeated }) => {
            let view = AcceptedView {
                namespace: namespace.as_str(),
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

fn read(call: &Call) -> Result<(Namespace, Claim), Problem> {
    let latest = Latest::of(call);
    let mut input = call.json()?;
    let namespace = input.path("namespace", Namespace::parse);
    let key = input.header(IDEMPOTENCY_KEY, IdempotencyKey::parse);
    let nonce = nonce_of_any_kind(input.fields());
    let times = times(input.fields(), latest);
    input.finish(|| {
        let (namespace, (expires_at, issued_at)) = (namespace?, times?);
        let scope = Scope::Namespace { namespace: namespace.clone(), expires_at, issued_at };
        let idempotency = key.map(|key| key.digest(&call.caller, 0));
        Some((namespace, Claim { scope, nonce: nonce?, idempotency }))
    })
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Expired => Problem::invalid_field("/expires_at", "has passed"),
        Refusal::IssuedAhead => Problem::invalid_field("/issued_at", "must not be in the future"),
        Refusal::IssuedBeforeRestore => Problem::new(
            Code::IssuedBeforeRestore,
            "it was issued before the database was restored, or does not say when",
        ),
        Refusal::ClaimQuotaReached => Problem::new(
            Code::ClaimQuotaReached,
            "the namespace holds as many live nonces as it may; some expire soon",
        ),
        Refusal::SessionNotFound
        | Refusal::NotAParty
        | Refusal::SessionOver(_)
        | Refusal::SessionUsedUp
        | Refusal::DidRevoked => Problem::internal("a namespace has no session and no signer"),
    }
}

/// What a namespace holds.
#[derive(Serialize, ToSchema)]
#[schema(as = Namespace)]
pub(super) struct View<'a> {
    #[schema(example = "webhooks")]
    namespace: &'a str,
    /// Nonces that are kept; those that expired are counted until the purge.
    live: u64,
    /// The most of them: `claims.quota_per_namespace`.
    quota: u64,
}

/// How much does a namespace hold?
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}", operation_id = "read_namespace", tag = "nonces",
    params(("namespace" = String, Path, description = "Percent-encoded.", example = "webhooks")),
    responses((status = 200, description = "Also of a namespace in which nothing was claimed.", body = View)),
    extensions(("x-errors" = json!([]))),
)]
pub(super) async fn read_namespace(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let namespace = input.path("namespace", Namespace::parse);
    let namespace = input.finish(|| namespace)?;
    let live = call.state.claims.live_in_namespace(&namespace).await?;
    let quota = call.state.config.claims.quota_per_namespace;
    json(StatusCode::OK, &View { namespace: namespace.as_str(), live, quota })
}

/// Was a nonce used in a namespace? Never a licence to act: only a claim is.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/nonces/{nonce}", operation_id = "read_namespace_nonce", tag = "nonces",
    params(
        ("namespace" = String, Path, description = "Percent-encoded.", example = "webhooks"),
        ("nonce" = String, Path, description = "Percent-encoded.", example = "9f2c6a1e"),
    ),
    responses((status = 200, description = "It was used.", body = UsedView)),
    extensions(("x-errors" = json!(["nonce_unused"]))),
)]
pub(super) async fn used(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let namespace = input.path("namespace", Namespace::parse);
    let nonce = input.path("nonce", Nonce::parse);
    let (namespace, nonce) = input.finish(|| Some((namespace?, nonce?)))?;
    let used = call.state.claims.used_in_namespace(&namespace, &nonce).await?.ok_or_else(|| {
        let detail = "this nonce has not been claimed in this namespace, or is kept no longer";
        Problem::new(Code::NonceUnused, detail)
    })?;
    json(StatusCode::OK, &UsedView::of(&nonce, &used))
}
