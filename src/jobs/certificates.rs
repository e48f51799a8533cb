//! Notices that the files of the API's certificate have changed, for example after a renewal.

use std::time::Duration;

use crate::tls::Certificates;

pub(super) const NAME: &str = "certificates";
pub(super) const INTERVAL: Duration = Duration::from_mins(1);

pub(super) fn run(certificates: &Certificates) {
    certificates.reload_if_changed();
}
