//! `/v1/forward-auth`: a verdict for a proxy, which tells in headers what somebody asked of it.
//! The body of that request is not seen. Proxies understand four statuses: 200, 401, 403 and 503;
//! the code is in `X-Onceguard-Code`.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};

use super::State;
use super::auth::Access;
use super::call;
use super::caller::Caller;
use super::connection;
use super::credentials;
use super::exchange::Exchange;
use super::peer;
use super::problem::Problem;
use crate::domain::Code;
use crate::services::{Case, Verdict};
use crate::signatures::{Body, InvalidTarget, Request, Target};

const FORWARDED: [&str; 4] =
    ["x-forwarded-method", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-uri"];
const ORIGINAL: [&str; 2] = ["x-original-method", "x-original-url"];

/// What a client learns when its proxy may not ask.
const NOT_JUDGED: &str = "the request was not judged: the proxy that it came through is not set up \
                          for that, which only its operator can mend";

const CODE: HeaderName = HeaderName::from_static("x-onceguard-code");
const DID: HeaderName = HeaderName::from_static("x-onceguard-did");
const KEYID: HeaderName = HeaderName::from_static("x-onceguard-keyid");
const SESSION: HeaderName = HeaderName::from_static("x-onceguard-session");
const DIGEST: HeaderName = HeaderName::from_static("x-onceguard-content-digest");

/// Judge a signed request for a proxy, and spend its nonce if it passes.
///
/// Any method will do, and any path below this one. The request to judge is told in
/// `X-Forwarded-Method`, `-Proto`, `-Host` and `-Uri`, or in `X-Original-Method` and `-URL`; its
/// other headers are sent as they are. The token goes into `X-Onceguard-Token` when
/// `Authorization` is a part of the request to judge; with `forward_auth.public` none is asked
/// for. The body is not seen: compare it with `X-Onceguard-Content-Digest`.
#[utoipa::path(
    get, path = "/v1/forward-auth", operation_id = "forward_auth", tag = "verdicts",
    params(
        ("X-Forwarded-Method" = Option<String>, Header, example = "GET"),
        ("X-Forwarded-Proto" = Option<String>, Header, example = "https"),
        ("X-Forwarded-Host" = Option<String>, Header, example = "service.example"),
        ("X-Forwarded-Uri" = Option<String>, Header, example = "/orders?id=1"),
        ("X-Original-Method" = Option<String>, Header),
        ("X-Original-URL" = Option<String>, Header),
        ("X-Session-Id" = Option<String>, Header, description = "The session that the request belongs to; must be signed."),
    ),
    responses((status = 200, description = "Every check passed.", headers(
        ("X-Onceguard-DID" = String, description = "Who signed."),
        ("X-Onceguard-Keyid" = String),
        ("X-Onceguard-Session" = String, description = "When the request names one."),
        ("X-Onceguard-Content-Digest" = String, description = "The signed digest of the body, when there is one: sha-256, sha-512 or both, each once."),
    ))),
    extensions(("x-all-errors" = json!([
        "unauthenticated", "signature_required", "signature_malformed", "signature_tag_invalid",
        "signature_params_incomplete", "signature_alg_not_allowed", "signature_window_invalid",
        "signature_components_incomplete", "signature_key_unknown", "signature_invalid",
        "signature_digest_mismatch", "signature_replayed", "signature_before_restore",
        "401 session_not_found", "401 session_ended", "401 session_expired", "forbidden",
        "forward_headers_ambiguous", "forward_headers_invalid", "signature_key_revoked",
        "signature_not_a_party", "403 claim_quota_reached", "signature_key_unavailable",
        "signature_revocation_stale", "storage_unavailable", "storage_went_back", "overloaded", "outcome_unknown",
        "503 internal_error",
    ]))),
)]
pub(super) async fn forward_auth(
    request: HttpRequest,
    access: Access,
) -> Result<HttpResponse, Problem> {
    judge(&request, access).await.map_err(|problem| {
        let status = match problem.status() {
            known @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => known,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let code = HeaderValue::from_static(problem.code().as_str());
        problem.with_status(status).with_header(CODE, code)
    })
}

async fn judge(request: &HttpRequest, access: Access) -> Result<HttpResponse, Problem> {
    let state = call::state_of(request)?;
    let server = &state.config.server;
    let mut peer = peer::of(request, server);
    if !state.config.forward_auth.public {
        let proxy = admit_proxy(request, &state, access).await?;
        // A token says who the proxy is, but not that it writes X-Forwarded-For itself instead
        // of handing on its client's: only `server.trusted_proxies` makes that the peer.
        if peer::behind_proxy(request, server).is_none() {
            peer = proxy.peer(request, server);
        }
    }
    let headers = request.headers();
    let (method, target) = asked(headers)?;
    let lines: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let received = Request { method, target, headers: &lines, body: Body::Unseen };
    let exchange = Exchange::of(request);
    let case = Case {
        request: received,
        profile: None,
        session: None,
        counts: true,
        peer,
        signers: None,
        repeat: None,
        seen: exchange.seen(),
    };
    match state.verdicts.judge(&case).await? {
        Ok(verdict) => {
            connection::serve(request);
            accepted(&verdict)
        }
        // nginx hands on one challenge, the first: to whoever asked there, that is for a signature.
        Err(denied) => Err(Problem::denied(&denied, status).for_signature_alone()),
    }
}

/// The proxy, whose token may ask for verdicts. What is wrong with it is told to the operator: the
/// proxy hands the answer on to a client, who has no part in it and could mend nothing.
async fn admit_proxy(
    request: &HttpRequest,
    state: &State,
    access: Access,
) -> Result<Caller, Problem> {
    let asked = credentials::of_proxy(request, state).await.and_then(|proxy| {
        Exchange::of(request).set_caller(proxy.clone());
        access.admits(&proxy, request).map(|()| proxy)
    });
    asked.map_err(|problem| {
        let code = problem.code();
        if !matches!(code, Code::Unauthenticated | Code::Forbidden) {
            return problem;
        }
        state.metrics.forward_auth_refused.inc();
        tracing::warn!(
            peer = %peer::of(request, &state.config.server),
            why = problem.detail(),
            "a proxy may not ask for verdicts: its configuration must send a token with the scope \
             verify in X-Onceguard-Token"
        );
        Problem::new(code, NOT_JUDGED).for_signature_alone()
    })
}

/// The method and the target of the request to judge.
fn asked(headers: &HeaderMap) -> Result<(&str, Target<'_>), Problem> {
    let has = |names: &[&str]| names.iter().any(|name| headers.contains_key(*name));
    if has(&FORWARDED) && has(&ORIGINAL) {
        return Err(Problem::new(
            Code::ForwardHeadersAmbiguous,
            "there are both X-Forwarded-* and X-Original-* headers",
        ));
    }
    let (method, target) = if has(&ORIGINAL) {
        let [method, url] = ORIGINAL;
        (one(headers, method)?, Target::parse(one(headers, url)?))
    } else {
        let [method, proto, host, uri] = FORWARDED;
        let method = one(headers, method)?;
        let (proto, host) = (one(headers, proto)?, one(headers, host)?);
        (method, Target::new(proto, host, one(headers, uri)?))
    };
    let target = target.map_err(unusable)?;
    if Method::from_bytes(method.as_bytes()).is_err() {
        return Err(invalid("the method is none"));
    }
    Ok((method, target))
}

/// A header that must be there once.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Problem> {
    let mut values = headers.get_all(name);
    let value = values.next().ok_or_else(|| invalid(format!("there is no {name}")))?;
    if values.next().is_some() {
        let detail = format!("{name} is there more than once");
        return Err(Problem::new(Code::ForwardHeadersAmbiguous, detail));
    }
    value.to_str().map_err(|_| invalid(format!("{name} is not visible ASCII")))
}

fn unusable(error: InvalidTarget) -> Problem {
    invalid(format!("the URL that they make {error}"))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::ForwardHeadersInvalid, detail.into())
}

const fn status(code: Code) -> StatusCode {
    match code {
        Code::SignatureKeyRevoked | Code::SignatureNotAParty | Code::ClaimQuotaReached => {
            StatusCode::FORBIDDEN
        }
        Code::SignatureKeyUnavailable | Code::SignatureRevocationStale => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::UNAUTHORIZED,
    }
}

/// What is handed on is what was signed, written by us: never a header's own text.
fn accepted(verdict: &Verdict) -> Result<HttpResponse, Problem> {
    let mut response = HttpResponse::Ok();
    let mut add = |name: HeaderName, value: &str| {
        let value = HeaderValue::from_str(value)
            .map_err(|error| Problem::internal(format!("{name} cannot be written: {error}")))?;
        response.insert_header((name, value));
        Ok::<_, Problem>(())
    };
    add(DID, verdict.did.as_str())?;
    add(KEYID, &verdict.keyid)?;
    if let Some(id) = verdict.session {
        add(SESSION, &id.to_string())?;
    }
    if let Some(digest) = &verdict.content_digest {
        add(DIGEST, &digest.to_string())?;
    }
    Ok(response.finish())
}
