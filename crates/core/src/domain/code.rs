//! The codes: every way in which a call can fail, as one word. Callers build on the words: they
//! never change.

/// Makes the enum, the list of all, and the words both ways from one table.
macro_rules! codes {
    ($($variant:ident = $word:literal,)+) => {
        /// Every way in which a call can fail.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($variant,)+
        }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word in answers, in the log and in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

codes! {
    InvalidRequest = "invalid_request",
    Unauthenticated = "unauthenticated",
    Forbidden = "forbidden",
    DidRevoked = "did_revoked",
    SessionNotFound = "session_not_found",
    DidNotFound = "did_not_found",
    RecordNotFound = "record_not_found",
    NonceUnused = "nonce_unused",
    NotFound = "not_found",
    MethodNotAllowed = "method_not_allowed",
    PreconditionFailed = "precondition_failed",
    PreconditionRequired = "precondition_required",
    NonceReplayed = "nonce_replayed",
    IssuedBeforeRestore = "issued_before_restore",
    SessionExists = "session_exists",
    WebhookConfigured = "webhook_configured",
    SessionIdBeforeRestore = "session_id_before_restore",
    SessionEnded = "session_ended",
    SessionExpired = "session_expired",
    CursorExpired = "cursor_expired",
    PayloadTooLarge = "payload_too_large",
    UnsupportedMediaType = "unsupported_media_type",
    ValidationFailed = "validation_failed",
    ChecksumMismatch = "checksum_mismatch",
    DidUnresolvable = "did_unresolvable",
    ClaimQuotaReached = "claim_quota_reached",
    RecordQuotaReached = "record_quota_reached",
    RateLimited = "rate_limited",
    StorageUnavailable = "storage_unavailable",
    StorageWentBack = "storage_went_back",
    UpstreamUnavailable = "upstream_unavailable",
    Overloaded = "overloaded",
    OutcomeUnknown = "outcome_unknown",
    InternalError = "internal_error",
    SignatureRequired = "signature_required",
    SignatureMalformed = "signature_malformed",
    SignatureTagInvalid = "signature_tag_invalid",
    SignatureParamsIncomplete = "signature_params_incomplete",
    SignatureAlgNotAllowed = "signature_alg_not_allowed",
    SignatureWindowInvalid = "signature_window_invalid",
    SignatureComponentsIncomplete = "signature_components_incomplete",
    SignatureKeyUnknown = "signature_key_unknown",
    SignatureKeyUnavailable = "signature_key_unavailable",
    SignatureKeyRevoked = "signature_key_revoked",
    SignatureRevocationStale = "signature_revocation_stale",
    SignatureInvalid = "signature_invalid",
    SignatureDigestMismatch = "signature_digest_mismatch",
    SignatureNotAParty = "signature_not_a_party",
    SignatureReplayed = "signature_replayed",
    SignatureBeforeRestore = "signature_before_restore",
    HostNotAllowed = "host_not_allowed",
    ForwardHeadersAmbiguous = "forward_headers_ambiguous",
    ForwardHeadersInvalid = "forward_headers_invalid",
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_are_unique_and_read_back() {
        let words: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
        }
        assert_eq!(Code::parse("nonsense"), None);
    }
}
