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
                "The body is not valid JSON",
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
                "`detail` names the scope that the token needs, or another way. An agent can act only for itself.",
            ),
            Self::DidRevoked => (
                "did_revoked",
                StatusCode::FORBIDDEN,
                "The DID is revoked",
                "A DID in this request was revoked. A revocation is final: no call that needs the DID succeeds.",
                "Use another DID. The status is 409 when the call tried to change the revoked DID itself.",
            ),
            Self::SessionNotFound => (
                "session_not_found",
                StatusCode::NOT_FOUND,
                "No such session",
                "There is no session with this id, or its record was purged after it ended. An agent gets the same answer for a session that it is not a party to.",
                "Check the id, or open a session.",
            ),
            Self::DidNotFound => (
                "did_not_found",
                StatusCode::NOT_FOUND,
                "No such DID",
                "The DID is not stored here, and no resolver knows it.",
                "Check the DID, or store its key with PUT /v1/dids/{did}.",
            ),
            Self::NonceUnused => (
                "nonce_unused",
                StatusCode::NOT_FOUND,
                "The nonce was not used",
                "This nonce has not been claimed in this session. A claim may come at any moment.",
                "To use the nonce, claim it. Do not act on this answer.",
            ),
            Self::NotFound => (
                "not_found",
                StatusCode::NOT_FOUND,
                "Not found",
                "There is nothing at this path, or the resource has no such sub-resource.",
                "Compare the path with those in /openapi.json.",
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
                "The session has changed",
                "The session's ETag is not one of those in If-Match. Nothing was changed.",
                "Read the session again, and repeat the change with its new ETag.",
            ),
            Self::NonceReplayed => (
                "nonce_replayed",
                StatusCode::CONFLICT,
                "The nonce was used before",
                "This nonce was already accepted in this scope. The message that carries it is a replay.",
                "Refuse the message. Give each new message a new random nonce.",
            ),
            Self::SessionExists => (
                "session_exists",
                StatusCode::CONFLICT,
                "The session id is taken",
                "A session with this id exists, or its record has not been purged yet.",
                "Choose another id, or leave it out.",
            ),
            Self::SessionEnded => (
                "session_ended",
                StatusCode::GONE,
                "The session has ended",
                "The session was ended by a call, or by the revocation of a party.",
                "Open a new session.",
            ),
            Self::SessionExpired => (
                "session_expired",
                StatusCode::GONE,
                "The session has expired",
                "The session has passed its expiry, or was unused for longer than its idle timeout.",
                "Open a new session.",
            ),
            Self::PayloadTooLarge => (
                "payload_too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large",
                "A request body may have at most 262144 bytes (256 KiB).",
                "Send less at once. Split a batch.",
            ),
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type or content coding",
                "The Content-Type is not application/json, or the body has a Content-Encoding, such as gzip.",
                "Send Content-Type: application/json, and no Content-Encoding.",
            ),
            Self::ValidationFailed => (
                "validation_failed",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The request is not valid",
                "A member is missing, unknown, duplicate, of the wrong type or out of range. `errors` names each, by a JSON pointer (RFC 6901) into the body, or by the name of the parameter or header. Nothing was changed.",
                "Correct each member that `errors` names.",
            ),
            Self::DidUnresolvable => (
                "did_unresolvable",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The DID cannot be resolved",
                "The DID is well-formed, but its method cannot resolve it, or its document has no usable key.",
                "Check the DID, and the document that its owner publishes.",
            ),
            Self::ClaimQuotaReached => (
                "claim_quota_reached",
                StatusCode::TOO_MANY_REQUESTS,
                "Claim limit reached",
                "The session has used all of its max_claims, or the signer already holds as many live nonces as its quota allows.",
                "Open a new session, or wait until the signer's nonces expire. Nothing is evicted to make room.",
            ),
            Self::RateLimited => (
                "rate_limited",
                StatusCode::TOO_MANY_REQUESTS,
                "Rate limited",
                "The caller opened too many sessions, or had a DID read from its home too often, in a short time. `detail` says which.",
                "Repeat the request after Retry-After. To read a DID from the cache, leave out max_age.",
            ),
            Self::StorageUnavailable => (
                "storage_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The database cannot be reached",
                "Without its database the service cannot answer safely. Nothing was changed.",
                "Repeat the request after Retry-After. Treat a claim as not accepted.",
            ),
            Self::UpstreamUnavailable => (
                "upstream_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The DID's home cannot be reached",
                "The DID must be read from its home, which did not answer. This says nothing about the DID itself.",
                "Repeat the request after Retry-After.",
            ),
            Self::Overloaded => (
                "overloaded",
                StatusCode::SERVICE_UNAVAILABLE,
                "Overloaded",
                "Too many requests are waiting. Nothing was changed.",
                "Repeat the request after Retry-After, more slowly.",
            ),
            Self::OutcomeUnknown => (
                "outcome_unknown",
                StatusCode::SERVICE_UNAVAILABLE,
                "The outcome is not known",
                "The change was sent to the database, but the connection broke before the database answered.",
                "Treat a claim as not accepted. Repeat the request within 10 minutes, with the Idempotency-Key of the first try, to learn the outcome.",
            ),
            Self::InternalError => (
                "internal_error",
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal error",
                "The service met an unexpected error. Its log has the details, under the request id.",
                "Give the operator the request id.",
            ),
            Self::HostNotAllowed => (
                "host_not_allowed",
                StatusCode::MISDIRECTED_REQUEST,
                "Host not allowed",
                "The signed request is for a host that is not a name of this service.",
                "Send the request to a name of the service. Its operator sets these names: server.allowed_hosts, or server.public_url behind a proxy.",
            ),
            Self::ForwardHeadersAmbiguous => (
                "forward_headers_ambiguous",
                StatusCode::FORBIDDEN,
                "Ambiguous forwarding headers",
                "The request has both X-Forwarded-* and X-Original-* headers, or one of them twice. A client may have added them.",
                "Have the proxy set X-Forwarded-Method, -Proto, -Host and -Uri, and remove X-Original-Method and -URL. Or the other way round.",
            ),
            Self::ForwardHeadersInvalid => (
                "forward_headers_invalid",
                StatusCode::FORBIDDEN,
                "Invalid forwarding headers",
                "The headers that describe the request to judge are missing, or describe no valid request.",
                "Have the proxy send X-Forwarded-Method, -Proto, -Host and -Uri, or X-Original-Method and -URL.",
            ),
            Self::SignatureRequired => (
                "signature_required",
                StatusCode::UNAUTHORIZED,
                "The request is not signed",
                "The request has neither a Signature-Input nor a Signature field.",
                "Sign the request (RFC 9421).",
            ),
            Self::SignatureMalformed => (
                "signature_malformed",
                StatusCode::UNAUTHORIZED,
                "The signature is malformed",
                "Signature-Input and Signature must both be present, be dictionary structured fields (RFC 9651), and have the same labels.",
                "Write both fields as RFC 9421, section 4, defines them. A malformed signature is refused even when the request has another credential.",
            ),
            Self::SignatureTagInvalid => (
                "signature_tag_invalid",
                StatusCode::UNAUTHORIZED,
                "Not exactly one signature with this tag",
                "Exactly one signature must have the profile's tag. If the profile has no tag, the request must have exactly one signature.",
                "Sign once, with the profile's tag: tag=\"onceguard\" by default.",
            ),
            Self::SignatureParamsIncomplete => (
                "signature_params_incomplete",
                StatusCode::UNAUTHORIZED,
                "The signature's parameters are incomplete",
                "The signature lacks created, expires, nonce, keyid or alg, or its nonce is too short, too long, or not visible ASCII.",
                "Send all parameters that the profile requires, with a fresh random nonce of at least 16 characters.",
            ),
            Self::SignatureAlgNotAllowed => (
                "signature_alg_not_allowed",
                StatusCode::UNAUTHORIZED,
                "The algorithm is not allowed",
                "The profile does not allow this algorithm, or it does not match the type of the key.",
                "Leave out alg, or send the one of the key: ed25519 for Ed25519, ecdsa-p256-sha256 for P-256.",
            ),
            Self::SignatureWindowInvalid => (
                "signature_window_invalid",
                StatusCode::UNAUTHORIZED,
                "The signature is not valid at this time",
                "The signature has expired, its created time is in the future, or its lifetime is longer than the profile allows.",
                "Sign the request just before you send it, and check the signer's clock.",
            ),
            Self::SignatureComponentsIncomplete => (
                "signature_components_incomplete",
                StatusCode::UNAUTHORIZED,
                "The signature does not cover enough",
                "A required component is not covered, a component is covered twice, or it has no meaning in a request.",
                "Cover @method and @target-uri. With a body, also cover content-digest and content-type. If x-session-id is sent, cover it.",
            ),
            Self::SignatureKeyUnknown => (
                "signature_key_unknown",
                StatusCode::UNAUTHORIZED,
                "The signer's key is not known",
                "The keyid is not a DID URL, its DID does not resolve, or it does not identify exactly one key that may sign.",
                "Publish the key in the DID's document. If no resolver reads the DID's method, store the key with PUT /v1/dids/{did}. Name one of several keys by its fragment.",
            ),
            Self::SignatureKeyUnavailable => (
                "signature_key_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The signer's key cannot be read",
                "The signer's DID must be read from its home, which did not answer. This says nothing about the signature.",
                "Repeat the request after Retry-After. Its nonce was not spent.",
            ),
            Self::SignatureRevocationStale => (
                "signature_revocation_stale",
                StatusCode::SERVICE_UNAVAILABLE,
                "The signer's revocation status is stale",
                "The signer's DID was read too long ago, and its home does not answer now. The key may have been revoked since.",
                "Repeat the request after Retry-After. Its nonce was not spent. The operator sets dids.max_stale_seconds.",
            ),
            Self::SignatureKeyRevoked => (
                "signature_key_revoked",
                StatusCode::FORBIDDEN,
                "The signer is revoked",
                "The DID that signed was revoked, which is final, or its owner has deactivated it.",
                "Use another DID.",
            ),
            Self::SignatureInvalid => (
                "signature_invalid",
                StatusCode::UNAUTHORIZED,
                "The signature does not verify",
                "The key did not sign this request. The request was changed, or its method, URL or fields are not those that were signed.",
                "Compare the URL and the fields with what was signed. Behind a proxy, set server.public_url.",
            ),
            Self::SignatureDigestMismatch => (
                "signature_digest_mismatch",
                StatusCode::UNAUTHORIZED,
                "The body is not the one that was signed",
                "Content-Digest has no sha-256 or sha-512 value (RFC 9530), or it is not the digest of this body.",
                "Send exactly the bytes whose digest was signed.",
            ),
            Self::SignatureNotAParty => (
                "signature_not_a_party",
                StatusCode::FORBIDDEN,
                "The signer is not a party to the session",
                "The DID that signed is neither the client nor the server of the session.",
                "Check the session's id. An agent can act only in its own sessions.",
            ),
            Self::SignatureReplayed => (
                "signature_replayed",
                StatusCode::UNAUTHORIZED,
                "The signature was used before",
                "The nonce of this signature was already accepted. The request is a replay.",
                "Sign each request with a new random nonce, also when you repeat it.",
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
