//! Sees whether the files of the API's certificate changed, as when a certificate manager renewed it.

use std::time::Duration;

use crate::tls::Certificates;

pub(super) const NAME: &str = "certificates";
pub(super) const INTERVAL: Duration = Duration::from_mins(1);

pub(super) fn run(certificates: &Certificates) {
    certificates.reload_if_changed();
}
