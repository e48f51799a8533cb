//! Who calls. A credential is checked before anything else of a request is looked at, and its
//! text goes nowhere but to that check.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header;

use super::State;
use super::code::Code;
use super::problem::Problem;
use crate::domain::{Actor, ApiToken, TokenScope};

/// Somebody whose credential was checked.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    Token(Arc<ApiToken>),
}

impl Caller {
    /// Reads and checks the request's credential.
    ///
    /// # Errors
    /// `unauthenticated` when there is none that does; 503 when it cannot be checked.
    pub(super) async fn authenticate(
        request: &HttpRequest,
        state: &State,
    ) -> Result<Self, Problem> {
        let mut credentials = request.headers().get_all(header::AUTHORIZATION);
        let Some(credential) = credentials.next() else {
            return Err(Problem::unauthenticated(
                "the request has no credential; send Authorization: Bearer and a token",
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
        match state.tokens.authenticate(token).await? {
            Some(token) => Ok(Self::Token(token)),
            None => Err(Problem::unauthenticated(
                "the token is unknown, expired or revoked",
                Some("invalid_token"),
            )),
        }
    }

    /// # Errors
    /// `forbidden`, naming the scope.
    pub(super) fn must_have(&self, scope: TokenScope) -> Result<(), Problem> {
        let Self::Token(token) = self;
        if token.scopes.allow(scope) {
            return Ok(());
        }
        let detail = format!("this call needs the scope `{scope}`, which the token does not have");
        Err(Problem::new(Code::Forbidden, detail))
    }

    pub(super) fn actor(&self) -> Actor {
        let Self::Token(token) = self;
        Actor::Token { id: token.id, name: token.name.clone() }
    }

    /// For logs.
    pub(super) fn name(&self) -> &str {
        let Self::Token(token) = self;
        &token.name
    }

    /// What tells this caller from every other one: an `Idempotency-Key` is its own alone.
    pub(super) fn identity(&self) -> [u8; 16] {
        let Self::Token(token) = self;
        *token.id.as_bytes()
    }
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
