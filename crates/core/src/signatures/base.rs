//! The signature base: the text that is signed (RFC 9421, section 2.5).

use super::components::{Covered, NoValue};
use super::request::Request;

/// Why the signature base cannot be built from a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{identifier} is covered, but {reason}")]
pub struct NoBase {
    pub identifier: String,
    pub reason: NoValue,
}

/// The signature base of `covered`, in its order. `parameters` is the value of
/// `@signature-params`: verbatim what `Signature-Input` says after the label.
pub(super) fn signature_base(
    request: &Request<'_>,
    covered: &[Covered],
    parameters: &str,
) -> Result<String, NoBase> {
    let mut base = String::new();
    for Covered { component, identifier } in covered {
        let value = component
            .value(request)
            .map_err(|reason| NoBase { identifier: identifier.clone(), reason })?;
        base.push_str(identifier);
        base.push_str(": ");
        base.push_str(&value);
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(parameters);
    Ok(base)
}
