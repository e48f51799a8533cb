//! What is said about each code: its status, its texts, and when to try again. Callers build on
//! the statuses: they never change.

use actix_web::http::StatusCode;

use crate::domain::Code;

/// What is said about a code, in answers and on its page.
pub(super) struct Meaning {
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) explanation: &'static str,
    pub(super) remedy: &'static str,
    /// `Retry-After`, in seconds.
    pub(super) retry_after: Option<u32>,
}

impl Meaning {
    const fn new(
        status: StatusCode,
        title: &'static str,
        explanation: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self { status, title, explanation, remedy, retry_after: None }
    }

    const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(super) const fn of(code: Code) -> Self {
        match code {
            Code::InvalidRequest => Self::new(
                StatusCode::BAD_REQUEST,
                "The body is not valid JSON",
                "The request's body could not be read, or is not a JSON text in UTF-8.",
                "Send one complete JSON value (RFC 8259).",
            ),
            Code::Unauthenticated => Self::new(
                StatusCode::UNAUTHORIZED,
                "No valid credential",
                "The request carries no credential, or one that is unknown, expired or revoked.",
                "Send Authorization: Bearer with a token made by `onceguard token create`, or sign the request.",
            ),
            Code::Forbidden => Self::new(
                StatusCode::FORBIDDEN,
                "Not allowed",
                "The caller is known, and may not do this.",
                "`detail` names the scope that the token needs, or another way. An agent can act only for itself.",
            ),
            Code::DidRevoked => Self::new(
                StatusCode::FORBIDDEN,
                "The DID is revoked",
                "A DID in this request was revoked. A revocation is final: no call that needs the DID succeeds.",
                "Use another DID. The status is 409 when the call tried to change the revoked DID itself.",
            ),
            Code::SessionNotFound => Self::new(
                StatusCode::NOT_FOUND,
                "No such session",
                "There is no session with this id, or its record was purged after it ended. An agent gets the same answer for a session that it is not a party to.",
                "Check the id, or open a session.",
            ),
            Code::DidNotFound => Self::new(
                StatusCode::NOT_FOUND,
                "No such DID",
                "The DID is not stored here, and no resolver knows it.",
                "Check the DID, or store its key with PUT /v1/dids/{did}.",
            ),
            Code::RecordNotFound => Self::new(
                StatusCode::NOT_FOUND,
                "No such record",
                "The owner has no record of this kind and id, or it was deleted or has expired.",
                "Check kind and id, or list the owner's records.",
            ),
            Code::NonceUnused => Self::new(
                StatusCode::NOT_FOUND,
                "The nonce was not used",
                "This nonce has not been claimed in this session. A claim may come at any moment.",
                "To use the nonce, claim it. Do not act on this answer.",
            ),
            Code::NotFound => Self::new(
                StatusCode::NOT_FOUND,
                "Not found",
                "There is nothing at this path, or the resource has no such sub-resource.",
                "Compare the path with those in /openapi.json.",
            ),
            Code::MethodNotAllowed => Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "Method not allowed",
                "The path exists, but not with this method.",
                "Use a method that the Allow header names.",
            ),
            Code::PreconditionFailed => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "It has changed",
                "The ETag of the session or record is not one of those in If-Match, or there is a record and If-None-Match asks for none. Nothing was changed.",
                "Read it again, and repeat the change with its new ETag. If the answer to a write was lost, compare the record's checksum with that of the write.",
            ),
            Code::PreconditionRequired => Self::new(
                StatusCode::PRECONDITION_REQUIRED,
                "The change must say what it replaces",
                "A record is written and deleted only with If-Match or If-None-Match, so that two clients never overwrite each other's changes unseen.",
                "Send If-None-Match: * to make a new record, or If-Match with the ETag of the record that is replaced.",
            ),
            Code::NonceReplayed => Self::new(
                StatusCode::CONFLICT,
                "The nonce was used before",
                "This nonce was already accepted in this scope. The message that carries it is a replay.",
                "Refuse the message. Give each new message a new random nonce.",
            ),
            Code::SessionExists => Self::new(
                StatusCode::CONFLICT,
                "The session id is taken",
                "A session with this id exists, or its record has not been purged yet.",
                "Choose another id, or leave it out.",
            ),
            Code::WebhookConfigured => Self::new(
                StatusCode::CONFLICT,
                "The webhook is of the configuration",
                "The configuration of the service names this webhook, and would make it so again at its next start. A call can only pause and resume it.",
                "Change [webhooks.endpoints] of the configuration, and start the service again. What the configuration does not name any more can be deleted.",
            ),
            Code::IssuedBeforeRestore => Self::new(
                StatusCode::CONFLICT,
                "The nonce may have been used before the database was restored",
                "The database was put back to an earlier state, and may have forgotten nonces. This one was issued before that, or does not say when.",
                "Ask for a new one. Send issued_at with each claim where the message says when it was made; then only what is older is refused.",
            ),
            Code::SessionIdBeforeRestore => Self::new(
                StatusCode::CONFLICT,
                "The session id may have been used before the database was restored",
                "The database was put back to an earlier state, and may have forgotten sessions. An id that the caller chooses could be the id of one of them.",
                "Leave the id out, or choose a UUIDv7 that is made now. Right after the recovery, wait as long as the clocks may differ (a minute by default).",
            ),
            Code::SessionEnded => Self::new(
                StatusCode::GONE,
                "The session has ended",
                "The session was ended by a call, by the revocation of a party, or because the database was restored.",
                "Open a new session.",
            ),
            Code::SessionExpired => Self::new(
                StatusCode::GONE,
                "The session has expired",
                "The session has passed its expiry, or was unused for longer than its idle timeout.",
                "Open a new session.",
            ),
            Code::CursorExpired => Self::new(
                StatusCode::GONE,
                "The cursor has expired",
                "What happened since this cursor was made may no longer be known: the reader was away for too long, the owner's records were erased, or the database was put back to an earlier state.",
                "Read everything anew, without since. Records that are not in it do not exist any more; events that are not in it are past their retention.",
            ),
            Code::PayloadTooLarge => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large",
                "A request body may have at most 262144 bytes (256 KiB); where it carries records, 2097152 (2 MiB).",
                "Send less at once. Split a batch.",
            ),
            Code::UnsupportedMediaType => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type or content coding",
                "The Content-Type is not application/json, or the body has a Content-Encoding, such as gzip.",
                "Send Content-Type: application/json, and no Content-Encoding.",
            ),
            Code::ValidationFailed => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "The request is not valid",
                "A member is missing, unknown, duplicate, of the wrong type or out of range. `errors` names each, by a JSON pointer (RFC 6901) into the body, or by the name of the parameter or header. Nothing was changed.",
                "Correct each member that `errors` names.",
            ),
            Code::ChecksumMismatch => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "The checksum is another one",
                "The checksum of a record is not the SHA-256 of the bytes of its iv and its ciphertext, one after the other. Nothing was changed.",
                "Compute the checksum over the bytes, not over their base64. Send the record again.",
            ),
            Code::DidUnresolvable => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "The DID cannot be resolved",
                "The DID is well-formed, but its method cannot resolve it, or its document has no usable key.",
                "Check the DID, and the document that its owner publishes.",
            ),
            Code::ClaimQuotaReached => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Claim limit reached",
                "The session has used all of its max_claims, or the signer already holds as many live nonces as its quota allows.",
                "Open a new session, or wait until the signer's nonces expire. Nothing is evicted to make room.",
            )
            .retry_after(60),
            Code::RecordQuotaReached => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "There is no room for the record",
                "The owner has as many records or bytes as it may have, or all agents together have. Deleted records count until they are forgotten. Nothing was changed.",
                "Delete records that hold many bytes, or replace them by smaller ones. The operator sets the limits in [records].",
            ),
            Code::RateLimited => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Rate limited",
                "The caller opened too many sessions, or had a DID read from its home too often, in a short time. `detail` says which.",
                "Repeat the request after Retry-After. To read a DID from the cache, leave out max_age.",
            )
            .retry_after(1),
            Code::StorageUnavailable => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The database cannot be reached",
                "Without its database the service cannot answer safely. Nothing was changed.",
                "Repeat the request after Retry-After. Treat a claim as not accepted.",
            )
            .retry_after(5),
            Code::StorageWentBack => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The database went back in time",
                "The database lacks commits that it had acknowledged, as after a restore or a fail-over that lost some. Until it is recovered, it could accept again what it accepted before. Nothing was changed.",
                "Treat a claim as not accepted, and repeat the request later. Revocations are taken all the same. The operator runs `onceguard recover`.",
            )
            .retry_after(5),
            Code::UpstreamUnavailable => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The DID's home cannot be reached",
                "The DID must be read from its home, which did not answer. This says nothing about the DID itself.",
                "Repeat the request after Retry-After.",
            )
            .retry_after(5),
            Code::Overloaded => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Overloaded",
                "Too many requests are waiting. Nothing was changed.",
                "Repeat the request after Retry-After, more slowly.",
            )
            .retry_after(1),
            Code::OutcomeUnknown => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The outcome is not known",
                "The change was sent to the database, but the connection broke before the database answered.",
                "Treat a claim as not accepted. Repeat the request within 10 minutes, with the Idempotency-Key of the first try, to learn the outcome.",
            )
            .retry_after(1),
            Code::InternalError => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal error",
                "The service met an unexpected error. Its log has the details, under the request id.",
                "Give the operator the request id.",
            ),
            Code::HostNotAllowed => Self::new(
                StatusCode::MISDIRECTED_REQUEST,
                "Host not allowed",
                "The signed request is for a host that is not a name of this service.",
                "Send the request to a name of the service. Its operator sets these names: server.allowed_hosts, or server.public_url behind a proxy.",
            ),
            Code::ForwardHeadersAmbiguous => Self::new(
                StatusCode::FORBIDDEN,
                "Ambiguous forwarding headers",
                "The request has both X-Forwarded-* and X-Original-* headers, or one of them twice. A client may have added them.",
                "Have the proxy set X-Forwarded-Method, -Proto, -Host and -Uri, and remove X-Original-Method and -URL. Or the other way round.",
            ),
            Code::ForwardHeadersInvalid => Self::new(
                StatusCode::FORBIDDEN,
                "Invalid forwarding headers",
                "The headers that describe the request to judge are missing, or describe no valid request.",
                "Have the proxy send X-Forwarded-Method, -Proto, -Host and -Uri, or X-Original-Method and -URL.",
            ),
            Code::SignatureRequired => Self::new(
                StatusCode::UNAUTHORIZED,
                "The request is not signed",
                "The request has neither a Signature-Input nor a Signature field.",
                "Sign the request (RFC 9421).",
            ),
            Code::SignatureMalformed => Self::new(
                StatusCode::UNAUTHORIZED,
                "The signature is malformed",
                "Signature-Input and Signature must both be present, be dictionary structured fields (RFC 9651), and have the same labels.",
                "Write both fields as RFC 9421, section 4, defines them. A malformed signature is refused even when the request has another credential.",
            ),
            Code::SignatureTagInvalid => Self::new(
                StatusCode::UNAUTHORIZED,
                "Not exactly one signature with this tag",
                "Exactly one signature must have the profile's tag. If the profile has no tag, the request must have exactly one signature.",
                "Sign once, with the profile's tag: tag=\"onceguard\" by default.",
            ),
            Code::SignatureParamsIncomplete => Self::new(
                StatusCode::UNAUTHORIZED,
                "The signature's parameters are incomplete",
                "The signature lacks created, expires, nonce, keyid or alg, or its nonce is too short, too long, or not visible ASCII.",
                "Send all parameters that the profile requires, with a fresh random nonce of at least 16 characters.",
            ),
            Code::SignatureAlgNotAllowed => Self::new(
                StatusCode::UNAUTHORIZED,
                "The algorithm is not allowed",
                "The profile does not allow this algorithm, or it does not match the type of the key.",
                "Leave out alg, or send the one of the key: ed25519 for Ed25519, ecdsa-p256-sha256 for P-256.",
            ),
            Code::SignatureWindowInvalid => Self::new(
                StatusCode::UNAUTHORIZED,
                "The signature is not valid at this time",
                "The signature has expired, its created time is in the future, or its lifetime is longer than the profile allows.",
                "Sign the request just before you send it, and check the signer's clock.",
            ),
            Code::SignatureComponentsIncomplete => Self::new(
                StatusCode::UNAUTHORIZED,
                "The signature does not cover enough",
                "A required component is not covered, a component is covered twice, or it has no meaning in a request.",
                "Cover @method and @target-uri. With a body, also cover content-digest and content-type. If x-session-id is sent, cover it.",
            ),
            Code::SignatureKeyUnknown => Self::new(
                StatusCode::UNAUTHORIZED,
                "The signer's key is not known",
                "The keyid is not a DID URL, its DID does not resolve, or it does not identify exactly one key that may sign.",
                "Publish the key in the DID's document. If no resolver reads the DID's method, store the key with PUT /v1/dids/{did}. Name one of several keys by its fragment.",
            ),
            Code::SignatureKeyUnavailable => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The signer's key cannot be read",
                "The signer's DID must be read from its home, which did not answer. This says nothing about the signature.",
                "Repeat the request after Retry-After. Its nonce was not spent.",
            )
            .retry_after(5),
            Code::SignatureRevocationStale => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The signer's revocation status is stale",
                "The signer's DID was read too long ago, and its home does not answer now. The key may have been revoked since.",
                "Repeat the request after Retry-After. Its nonce was not spent. The operator sets dids.max_stale_seconds.",
            )
            .retry_after(5),
            Code::SignatureKeyRevoked => Self::new(
                StatusCode::FORBIDDEN,
                "The signer is revoked",
                "The DID that signed was revoked, which is final, or its owner has deactivated it.",
                "Use another DID.",
            ),
            Code::SignatureInvalid => Self::new(
                StatusCode::UNAUTHORIZED,
                "The signature does not verify",
                "The key did not sign this request. The request was changed, or its method, URL or fields are not those that were signed.",
                "Compare the URL and the fields with what was signed. Behind a proxy, set server.public_url.",
            ),
            Code::SignatureDigestMismatch => Self::new(
                StatusCode::UNAUTHORIZED,
                "The body is not the one that was signed",
                "Content-Digest has no sha-256 or sha-512 value (RFC 9530), or it is not the digest of this body.",
                "Send exactly the bytes whose digest was signed.",
            ),
            Code::SignatureNotAParty => Self::new(
                StatusCode::FORBIDDEN,
                "The signer is not a party to the session",
                "The DID that signed is neither the client nor the server of the session.",
                "Check the session's id. An agent can act only in its own sessions.",
            ),
            Code::SignatureReplayed => Self::new(
                StatusCode::UNAUTHORIZED,
                "The signature was used before",
                "The nonce of this signature was already accepted. The request is a replay.",
                "Sign each request with a new random nonce, also when you repeat it.",
            ),
            Code::SignatureBeforeRestore => Self::new(
                StatusCode::UNAUTHORIZED,
                "The signature is older than the restored database",
                "The database was put back to an earlier state, and may have forgotten that this request was accepted. So it accepts no request that was signed before.",
                "Sign the request again, with a new nonce. Right after the recovery, wait as long as the clocks may differ (a minute by default).",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_repeated_says_when() {
        for code in Code::ALL {
            let meaning = Meaning::of(*code);
            let retried = [429, 503].contains(&meaning.status.as_u16());
            assert_eq!(meaning.retry_after.is_some(), retried, "{}", code.as_str());
        }
    }
}
