//! The signature profiles that `sign` and `verify` know: those of the configuration, as in the
//! service.

use super::Failure;
use crate::config::{Need, Sources};
use crate::signatures::Profile;

/// Finds a profile by its name.
///
/// # Errors
/// When the configuration is wrong, or has no profile of this name.
pub(super) fn find(sources: &Sources, name: &str) -> Result<Profile, Failure> {
    let profiles = sources.load(Need::Database)?.config.signatures.profiles;
    let names: Vec<_> = profiles.iter().map(|profile| profile.name.as_str()).collect();
    let unknown = format!(
        "--profile {name}: the configuration has no such profile; it has {}",
        names.join(", ")
    );
    profiles.into_iter().find(|profile| profile.name == name).ok_or(Failure::Usage(unknown))
}
