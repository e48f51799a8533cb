//! What a problem is as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::super::fields::FieldError;
use super::super::time::Time;
use super::super::words::EndReason;

/// The body of every error.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(in crate::http) struct Body<'a> {
    /// The page of the code: absolute where the service knows its URL, `server.public_url`.
    #[serde(rename = "type")]
    #[schema(example = "/problems/validation_failed")]
    pub(super) kind: String,
    pub(super) title: &'a str,
    pub(super) status: u16,
    pub(super) detail: &'a str,
    pub(super) code: &'a str,
    pub(super) request_id: &'a str,
    /// With `validation_failed`, and with `precondition_failed` of a batch.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FieldError>, required = false)]
    pub(super) errors: &'a [FieldError],
    /// With `nonce_replayed` and `signature_replayed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) first_used_at: Option<Time>,
    /// With `session_ended` and `session_expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) ended_at: Option<Time>,
    /// With `session_ended` and `session_expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<EndReason>, nullable = false)]
    pub(super) end_reason: Option<&'a str>,
}
