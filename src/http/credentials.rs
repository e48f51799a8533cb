//! Checks who calls. A credential is checked before anything else of a request is looked at, and
//! its text goes nowhere but to that check. Of a body nothing is read before.

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderName};
use actix_web::web::{self, Bytes};

use super::State;
use super::body::Incoming;
use super::caller::Caller;
use super::code::Meaning;
use super::entry::Entry;
use super::exchange::Exchange;
use super::problem::Problem;
use super::{connection, peer, target};
use crate::services::{Case, Denied};
use crate::signatures::{Body, Request};

const PROXY_TOKEN: HeaderName = HeaderName::from_static("x-onceguard-token");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// By its signature: it is verified before anything of the body is read, and its nonce is
/// spent after the body turned out to be the signed one.
///
/// # Errors
/// Why the signature is refused, `forbidden`, or why the body could not be read; 503 when the
/// signature cannot be checked.
pub(super) async fn by_signature(
    request: &HttpRequest,
    incoming: &mut Incoming,
    entry: Entry,
    state: &web::Data<State>,
) -> Result<(Caller, Bytes), Problem> {
    let exchange = Exchange::of(request);
    let denied = |denied: Denied| match denied {
        // It may not know that there is one.
        Denied::NotAParty => Problem::session_not_found(),
        denied => Problem::denied(&denied, |code| Meaning::of(code).status),
    };
    let headers: Vec<_> =
        request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let case = Case {
        request: Request {
            method: request.method().as_str(),
            target: target::of(request, &state.config.server)?,
            headers: &headers,
            body: Body::Awaited { announced: incoming.is_announced() },
        },
        profile: None,
        session: None,
        counts: false,
        peer: peer::of(request, &state.config.server),
        signers: Some(&state.config.agents.allow),
        repeat: None,
        seen: exchange.seen(),
    };
    let verified = state.verdicts.verify(&case).await?.map_err(denied)?;
    connection::serve(request);
    let caller = Caller::Agent(verified.did().clone());
    entry.let_in(&caller, request, state).await?;
    let body = incoming.read(request, &caller, state).await?;
    verified.check_content(&body).map_err(denied)?;
    state.verdicts.accept(&verified).await?.map_err(denied)?;
    Ok((caller, body))
}

/// Whether a request comes without any credential.
pub(super) fn is_nobody(request: &HttpRequest) -> bool {
    let headers = request.headers();
    ![header::AUTHORIZATION, SIGNATURE, SIGNATURE_INPUT]
        .iter()
        .any(|name| headers.contains_key(name))
}

/// By `Authorization: Bearer`.
pub(super) async fn by_token(request: &HttpRequest, state: &State) -> Result<Caller, Problem> {
    let mut credentials = request.headers().get_all(header::AUTHORIZATION);
    let Some(credential) = credentials.next() else {
        return Err(Problem::unauthenticated(
            "the request has no credential; send Authorization: Bearer and a token, or sign it",
            None,
        ));
    };
    if credentials.next().is_some() {
        return Err(Problem::unauthenticated(
            "the request has more than one Authorization header",
            Some("invalid_request"),
        ));
    }
    let Some(token) = credential.to_str().ok().and_then(bearer_token) else {
        return Err(Problem::unauthenticated(
            "the Authorization header must be the word Bearer, a space and a token",
            Some("invalid_request"),
        ));
    };
    with_token(token, request, state).await
}

/// The token of a proxy: in a header of its own, since `Authorization` may be a part of the
/// request to judge.
pub(super) async fn of_proxy(request: &HttpRequest, state: &State) -> Result<Caller, Problem> {
    let mut tokens = request.headers().get_all(PROXY_TOKEN);
    match (tokens.next(), tokens.next()) {
        (None, _) => by_token(request, state).await,
        (Some(token), None) => with_token(token.to_str().unwrap_or(""), request, state).await,
        (Some(_), Some(_)) => Err(Problem::unauthenticated(
            "the request has more than one X-Onceguard-Token header",
            Some("invalid_request"),
        )),
    }
}

async fn with_token(token: &str, request: &HttpRequest, state: &State) -> Result<Caller, Problem> {
    let Some(token) = state.tokens.authenticate(token).await? else {
        state.evidence.note_refused_token(peer::of(request, &state.config.server));
        return Err(Problem::unauthenticated(
            "the token is unknown, expired or revoked",
            Some("invalid_token"),
        ));
    };
    connection::admit(request);
    Ok(Caller::Token(token))
}

/// Whether a request's credential is its signature.
pub(super) fn is_signed(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.contains_key(SIGNATURE) || headers.contains_key(SIGNATURE_INPUT)
}

/// The token of `Bearer <token>`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer_token(credential: &str) -> Option<&str> {
    let (scheme, token) = credential.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_bearer_token() {
        assert_eq!(bearer_token("Bearer og_x"), Some("og_x"));
        assert_eq!(bearer_token("bEARER  og_x "), Some("og_x"));
        for text in ["", "Bearer", "Bearer ", "Basic og_x", "og_x", "Bearerog_x"] {
            assert_eq!(bearer_token(text), None, "{text:?}");
        }
    }
}
