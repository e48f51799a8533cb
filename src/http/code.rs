//! The table of codes: every way in which a call can fail, its status, and what is said about it.
//! Callers build on the words and the statuses: they never change.

use actix_web::http::StatusCode;

/// Every way in which a call can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidRequest,
    Unauthenticated,
    Forbidden,
    DidRevoked,
    SessionNotFound,
    DidNotFound,
    NonceUnused,
    NotFound,
    MethodNotAllowed,
    PreconditionFailed,
    NonceReplayed,
    SessionExists,
    SessionEnded,
    SessionExpired,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    DidUnresolvable,
    ClaimQuotaReached,
    RateLimited,
    StorageUnavailable,
    UpstreamUnavailable,
    Overloaded,
    OutcomeUnknown,
    InternalError,
    SignatureRequired,
    SignatureMalformed,
    SignatureTagInvalid,
    SignatureParamsIncomplete,
    SignatureAlgNotAllowed,
    SignatureWindowInvalid,
    SignatureComponentsIncomplete,
    SignatureKeyUnknown,
    SignatureKeyUnavailable,
    SignatureKeyRevoked,
    SignatureRevocationStale,
    SignatureInvalid,
    SignatureDigestMismatch,
    SignatureNotAParty,
    SignatureReplayed,
    HostNotAllowed,
    ForwardHeadersAmbiguous,
    ForwardHeadersInvalid,
}

/// What is said about a code, in answers and on its page.
pub(super) struct Meaning {
    pub(super) word: &'static str,
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) explanation: &'static str,
    pub(super) remedy: &'static str,
    /// `Retry-After`, in seconds.
    pub(super) retry_after: Option<u32>,
}

impl Code {
    pub(super) const ALL: [Self; 43] = [
        Self::InvalidRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::DidRevoked,
        Self::SessionNotFound,
        Self::DidNotFound,
        Self::NonceUnused,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::PreconditionFailed,
        Self::NonceReplayed,
        Self::SessionExists,
        Self::SessionEnded,
        Self::SessionExpired,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::ValidationFailed,
        Self::DidUnresolvable,
        Self::ClaimQuotaReached,
        Self::RateLimited,
        Self::StorageUnavailable,
        Self::UpstreamUnavailable,
        Self::Overloaded,
        Self::OutcomeUnknown,
        Self::InternalError,
        Self::SignatureRequired,
        Self::SignatureMalformed,
        Self::SignatureTagInvalid,
        Self::SignatureParamsIncomplete,
        Self::SignatureAlgNotAllowed,
        Self::SignatureWindowInvalid,
        Self::SignatureComponentsIncomplete,
        Self::SignatureKeyUnknown,
        Self::SignatureKeyUnavailable,
        Self::SignatureKeyRevoked,
        Self::SignatureRevocationStale,
        Self::SignatureInvalid,
        Self::SignatureDigestMismatch,
        Self::SignatureNotAParty,
        Self::SignatureReplayed,
        Self::HostNotAllowed,
        Self::ForwardHeadersAmbiguous,
        Self::ForwardHeadersInvalid,
    ];

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.meaning().word == word)
    }

    pub(super) const fn meaning(self) -> Meaning {
        let (word, status, title, explanation, remedy) = match self {
            Self::InvalidRequest => (
                "invalid_request",
                StatusCode::BAD_REQUEST,
                "The body is not JSON",
                "The request's body could not be read, or is not a JSON text in UTF-8.",
                "Send one complete JSON value (RFC 8259).",
            ),
            Self::Unauthenticated => (
                "unauthenticated",
                StatusCode::UNAUTHORIZED,
                "No valid credential",
                "The request carries no credential, or one that is unknown, expired or revoked.",
                "Send Authorization: Bearer with a token made by `onceguard token create`, or sign the request.",
            ),
            Self::Forbidden => (
                "forbidden",
                StatusCode::FORBIDDEN,
                "Not allowed",
                "The caller is known, and may not do this.",
                "Use a token with the scope that the detail names, or the way that it names. An agent acts for itself alone.",
            ),
            Self::DidRevoked => (
                "did_revoked",
                StatusCode::FORBIDDEN,
                "The DID is revoked",
                "A DID in this request was revoked. A revocation is final: nothing that needs the DID is done any more.",
                "Use another DID. The status is 409 where the DID itself was to be changed.",
            ),
            Self::SessionNotFound => (
                "session_not_found",
                StatusCode::NOT_FOUND,
                "No such session",
                "There is no session with this id, or it ended so long ago that its record is gone.",
                "Check the id; open a session.",
            ),
            Self::DidNotFound => (
                "did_not_found",
                StatusCode::NOT_FOUND,
                "No such DID",
                "The DID is not stored here, and no resolver knows it.",
                "Check the DID; store its key with PUT /v1/dids/{did}.",
            ),
            Self::NonceUnused => (
                "nonce_unused",
                StatusCode::NOT_FOUND,
                "The nonce was not used",
                "Nobody has claimed this nonce in this session so far. Somebody may do so at any moment.",
                "Claim the nonce to use it: this answer is no licence to act.",
            ),
            Self::NotFound => (
                "not_found",
                StatusCode::NOT_FOUND,
                "Not found",
                "There is nothing at this path, or the thing has no such part.",
                "Compare the path with /openapi.json.",
            ),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "Method not allowed",
                "The path exists, but not with this method.",
                "Use a method that the Allow header names.",
            ),
            Self::PreconditionFailed => (
                "precondition_failed",
                StatusCode::PRECONDITION_FAILED,
                "The session was changed meanwhile",
                "The session does not have an ETag that If-Match names. Nothing was changed.",
                "Read the session again, and repeat the change with its new ETag.",
            ),
            Self::NonceReplayed => (
                "nonce_replayed",
                StatusCode::CONFLICT,
                "The nonce was used before",
                "This nonce was already accepted in this scope. Whoever sends it again replays.",
                "Refuse the message that carries it. To send a new message, take a new random nonce.",
            ),
            Self::SessionExists => (
                "session_exists",
                StatusCode::CONFLICT,
                "The session id is taken",
                "A session with this id exists, or ended too recently for its id to be used again.",
                "Choose another id, or leave it out.",
            ),
            Self::SessionEnded => (
                "session_ended",
                StatusCode::GONE,
                "The session has ended",
                "The session was ended: by a call, by the revocation of a party, or by a restore.",
                "Open a new session.",
            ),
            Self::SessionExpired => (
                "session_expired",
                StatusCode::GONE,
                "The session has expired",
                "The session passed its expiry, or nobody used it for longer than its idle timeout.",
                "Open a new session.",
            ),
            Self::PayloadTooLarge => (
                "payload_too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large",
                "A request's body may have 262144 bytes (256 KiB).",
                "Send less at once: split a batch.",
            ),
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body is not declared as JSON",
                "The Content-Type is not application/json, or the body is compressed.",
                "Send Content-Type: application/json, and no Content-Encoding.",
            ),
            Self::ValidationFailed => (
                "validation_failed",
                StatusCode::UNPROCESSABLE_ENTITY,
                "Something in the request is not as it must be",
                "Something is missing, unknown, there twice, of the wrong type or out of range. `errors` names each, by JSON pointer (RFC 6901) into the body or by the name of the parameter or header. Nothing was changed.",
                "Correct what `errors` names.",
            ),
            Self::DidUnresolvable => (
                "did_unresolvable",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The DID cannot be resolved",
                "The DID is well-formed, but cannot be read as its method asks, or gives no key that can be used.",
                "Check the DID and what its owner publishes.",
            ),
            Self::ClaimQuotaReached => (
                "claim_quota_reached",
                StatusCode::TOO_MANY_REQUESTS,
                "No more claims",
                "The session has used all of its max_claims, or the signer holds as many live nonces as it may.",
                "Open a new session, or wait until the signer's nonces expire. Nothing is evicted to make room.",
            ),
            Self::RateLimited => (
                "rate_limited",
                StatusCode::TOO_MANY_REQUESTS,
                "Too often",
                "This DID was read from where it lives a moment ago, because somebody asked for that.",
                "Repeat the request after Retry-After, or take what is cached: leave max_age out.",
            ),
            Self::StorageUnavailable => (
                "storage_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The database cannot be reached",
                "The service cannot say anything safely without its database. Nothing was changed.",
                "Repeat the request after Retry-After. Treat a claim as not accepted.",
            ),
            Self::UpstreamUnavailable => (
                "upstream_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The DID's home cannot be reached",
                "The DID has to be read from where it lives, which gave no answer. That says nothing about the DID.",
                "Repeat the request after Retry-After.",
            ),
            Self::Overloaded => (
                "overloaded",
                StatusCode::SERVICE_UNAVAILABLE,
                "Too much at once",
                "More claims are waiting than the service takes. Nothing was changed.",
                "Repeat the request after Retry-After, more slowly.",
            ),
            Self::OutcomeUnknown => (
                "outcome_unknown",
                StatusCode::SERVICE_UNAVAILABLE,
                "It is not known whether it happened",
                "The change was sent to the database, and the connection died before its answer.",
                "Treat a claim as not accepted. With the Idempotency-Key of the first try, a repeat within 10 minutes gets the true outcome.",
            ),
            Self::InternalError => (
                "internal_error",
                StatusCode::INTERNAL_SERVER_ERROR,
                "The service failed",
                "Something happened that should not. The service's log has it, beside the request id.",
                "Give the operator the request id.",
            ),
            Self::HostNotAllowed => (
                "host_not_allowed",
                StatusCode::MISDIRECTED_REQUEST,
                "Not a name of this service",
                "A signed request says for which host it is, and this service does not go by that name.",
                "Send the request to a name of the service; its operator sets them as server.allowed_hosts, or server.public_url behind a proxy.",
            ),
            Self::ForwardHeadersAmbiguous => (
                "forward_headers_ambiguous",
                StatusCode::FORBIDDEN,
                "The proxy does not say one thing",
                "There are X-Forwarded-* and X-Original-* headers together, or one of them more than once: somebody other than the proxy may have written them.",
                "Have the proxy overwrite X-Forwarded-Method, -Proto, -Host and -Uri, and remove X-Original-Method and -URL; or the other way round.",
            ),
            Self::ForwardHeadersInvalid => (
                "forward_headers_invalid",
                StatusCode::FORBIDDEN,
                "The proxy does not say what was asked for",
                "The headers that tell of the request to judge are missing, or no request can be what they say.",
                "Have the proxy send X-Forwarded-Method, -Proto, -Host and -Uri, or X-Original-Method and -URL.",
            ),
            Self::SignatureRequired => (
                "signature_required",
                StatusCode::UNAUTHORIZED,
                "The request is not signed",
                "The request to judge has neither a Signature-Input nor a Signature field.",
                "Sign the request (RFC 9421).",
            ),
            Self::SignatureMalformed => (
                "signature_malformed",
                StatusCode::UNAUTHORIZED,
                "The signature is malformed",
                "Signature-Input and Signature must both be there, be dictionaries of structured fields (RFC 8941), and have the same labels.",
                "Write the two fields as RFC 9421, section 4, says. A broken signature is never passed over for another credential.",
            ),
            Self::SignatureTagInvalid => (
                "signature_tag_invalid",
                StatusCode::UNAUTHORIZED,
                "Not exactly one signature of this profile",
                "Exactly one signature must have the profile's tag; where the profile has none, exactly one signature must be there at all.",
                "Sign once, with the tag of the profile: tag=\"onceguard\" by default.",
            ),
            Self::SignatureParamsIncomplete => (
                "signature_params_incomplete",
                StatusCode::UNAUTHORIZED,
                "The signature's parameters are incomplete",
                "The signature lacks created, expires, nonce, keyid or alg, or its nonce is too short, too long, or not visible ASCII.",
                "State all parameters that the profile asks for, with a fresh random nonce of at least 16 characters.",
            ),
            Self::SignatureAlgNotAllowed => (
                "signature_alg_not_allowed",
                StatusCode::UNAUTHORIZED,
                "The algorithm is not allowed",
                "The stated algorithm is not one of the profile's, or not the one that the key's type demands.",
                "Leave alg out, or state the algorithm of the key: ed25519 for Ed25519, ecdsa-p256-sha256 for P-256.",
            ),
            Self::SignatureWindowInvalid => (
                "signature_window_invalid",
                StatusCode::UNAUTHORIZED,
                "The signature is not valid now",
                "The signature has expired, was made in the future, or is to last longer than the profile allows.",
                "Sign the request again, shortly before it is sent; check the signer's clock.",
            ),
            Self::SignatureComponentsIncomplete => (
                "signature_components_incomplete",
                StatusCode::UNAUTHORIZED,
                "The signature does not cover enough",
                "A component that must be signed is not covered, is covered twice, or has no meaning in a request.",
                "Cover @method and @target-uri; content-digest and content-type when there is a body; x-session-id when it is sent.",
            ),
            Self::SignatureKeyUnknown => (
                "signature_key_unknown",
                StatusCode::UNAUTHORIZED,
                "The signer's key is not known",
                "The keyid is no DID URL, its DID does not resolve, or it does not name one key that may sign.",
                "Publish the key where the DID lives, or store it with PUT /v1/dids/{did} where no resolver reads the method; name one of several keys by its fragment.",
            ),
            Self::SignatureKeyUnavailable => (
                "signature_key_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The signer's key cannot be read",
                "The signer's DID has to be read from where it lives, which gave no answer. That says nothing about the signature.",
                "Repeat the request after Retry-After. Its nonce was not spent.",
            ),
            Self::SignatureRevocationStale => (
                "signature_revocation_stale",
                StatusCode::SERVICE_UNAVAILABLE,
                "It is not known whether the signer is revoked",
                "The signer's DID was read too long ago, and where it lives gives no answer now: the key may have been revoked meanwhile.",
                "Repeat the request after Retry-After. Its nonce was not spent. The operator sets dids.max_stale_seconds.",
            ),
            Self::SignatureKeyRevoked => (
                "signature_key_revoked",
                StatusCode::FORBIDDEN,
                "The signer is revoked",
                "The DID that signed was revoked, which is final, or is deactivated where it lives.",
                "Use another DID.",
            ),
            Self::SignatureInvalid => (
                "signature_invalid",
                StatusCode::UNAUTHORIZED,
                "The signature does not verify",
                "The signature is not this key's over this request: somebody changed the request, or its method, URL or fields are not those that were signed.",
                "Compare the URL and the fields with what was signed; behind a proxy, set server.public_url.",
            ),
            Self::SignatureDigestMismatch => (
                "signature_digest_mismatch",
                StatusCode::UNAUTHORIZED,
                "The body is not the one that was signed",
                "The Content-Digest has no sha-256 or sha-512 (RFC 9530), or not the body's.",
                "Send the body byte for byte as it was when its digest was made.",
            ),
            Self::SignatureNotAParty => (
                "signature_not_a_party",
                StatusCode::FORBIDDEN,
                "The signer is not a party to the session",
                "The DID that signed is neither the client nor the server of the session.",
                "Act in sessions of your own; check the session's id.",
            ),
            Self::SignatureReplayed => (
                "signature_replayed",
                StatusCode::UNAUTHORIZED,
                "The signature was used before",
                "The signer's nonce was already accepted. Whoever sends the same signed bytes again replays.",
                "Sign each request with a new random nonce, repeats too.",
            ),
        };
        let retry_after = match self {
            Self::ClaimQuotaReached => Some(60),
            Self::StorageUnavailable
            | Self::UpstreamUnavailable
            | Self::SignatureKeyUnavailable
            | Self::SignatureRevocationStale => Some(5),
            Self::RateLimited | Self::Overloaded | Self::OutcomeUnknown => Some(1),
            _ => None,
        };
        Meaning { word, status, title, explanation, remedy, retry_after }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_are_unique_and_read_back() {
        let words: HashSet<_> = Code::ALL.iter().map(|code| code.meaning().word).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(Code::parse(code.meaning().word), Some(code));
        }
        assert_eq!(Code::parse("nonsense"), None);
    }

    #[test]
    fn what_may_be_repeated_says_when() {
        for code in Code::ALL {
            let meaning = code.meaning();
            let retried = [429, 503].contains(&meaning.status.as_u16());
            assert_eq!(meaning.retry_after.is_some(), retried, "{}", meaning.word);
        }
    }
}
