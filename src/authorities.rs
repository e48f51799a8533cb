//! Whose certificates this service trusts when it calls others: the authorities in a PEM file,
//! and those of the system.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

/// A file of authorities that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidAuthorities {
    #[error("{0}")]
    Pem(#[from] pem::Error),
    #[error("{0}")]
    Certificate(#[from] rustls::Error),
    #[error("it holds no certificate (PEM)")]
    Empty,
}

/// Every certificate of a PEM file.
///
/// # Errors
/// [`InvalidAuthorities`] when it cannot be read, holds none, or one that is no authority's.
pub(crate) fn of_file(path: &Path) -> Result<RootCertStore, InvalidAuthorities> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    if roots.is_empty() { Err(InvalidAuthorities::Empty) } else { Ok(roots) }
}

/// Adds those of the system that can be read; there may be none. Reads files for milliseconds.
pub(crate) fn add_system(roots: &mut RootCertStore) {
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
}
