//! The certificate that the API is served with: read from its files, checked, and read again while
//! the service runs. Files that cannot be used never replace what is in use.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode as _;

use crate::clock::Clock;
use crate::config::Tls;
use crate::domain::Timestamp;
use crate::metrics::Metrics;

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {message}")]
pub struct InvalidCertificate {
    /// The key of the configuration.
    pub key: &'static str,
    pub message: String,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    pair: Arc<CertifiedKey>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads the files. A certificate that is not valid at this time is read all the same.
    ///
    /// # Errors
    /// [`InvalidCertificate`] when a file cannot be read, or the key is not the certificate's.
    pub fn read(files: &Tls) -> Result<Self, InvalidCertificate> {
        let of_cert =
            |error: &dyn std::fmt::Display| invalid("server.tls.cert", &files.cert, error);
        let of_key = |error: &dyn std::fmt::Display| invalid("server.tls.key", &files.key, error);
        let chain = CertificateDer::pem_file_iter(&files.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| of_cert(&error))?;
        let Some(first) = chain.first() else {
            return Err(of_cert(&"it holds no certificate (PEM)"));
        };
        let validity = x509_cert::Certificate::from_der(first)
            .map_err(|error| of_cert(&format!("its first certificate cannot be read: {error}")))?
            .tbs_certificate
            .validity;
        let [not_before, not_after] = [validity.not_before, validity.not_after].map(|time| {
            i64::try_from(time.to_unix_duration().as_secs())
                .ok()
                .and_then(|seconds| Timestamp::from_timestamp(seconds, 0))
                .unwrap_or(Timestamp::MAX_UTC)
        });
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| of_key(&error))?;
        let pair =
            CertifiedKey::from_der(chain, key, &default_provider()).map_err(
                |error| match error {
                    rustls::Error::InconsistentKeys(_) => of_cert(&format!(
                        "it is not the certificate of the key in {}",
                        files.key.display()
                    )),
                    error => of_cert(&error),
                },
            )?;
        Ok(Self { pair: Arc::new(pair), not_before, not_after })
    }
}

fn invalid(key: &'static str, path: &Path, error: &dyn std::fmt::Display) -> InvalidCertificate {
    InvalidCertificate { key, message: format!("{}: {error}", path.display()) }
}

/// The certificate in use.
pub struct Certificates {
    files: Tls,
    clock: Clock,
    metrics: Arc<Metrics>,
    current: RwLock<Arc<CertifiedKey>>,
    /// The files as they were when they were last read.
    seen: Mutex<[Option<Stamp>; 2]>,
}

/// Changes when a file is written or replaced: its inode, its size, when it was modified.
type Stamp = (u64, u64, i64, i64);

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificates {
    /// # Errors
    /// As [`Certificate::read`].
    pub fn read(
        files: &Tls,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, InvalidCertificate> {
        let seen = Mutex::new(stamps(files));
        let certificate = Certificate::read(files)?;
        let current = RwLock::new(Arc::clone(&certificate.pair));
        let certificates = Self { files: files.clone(), clock, metrics, current, seen };
        certificates.tell(&certificate);
        Ok(certificates)
    }

    /// TLS 1.2 and 1.3, with whichever certificate is in use when a client connects.
    ///
    /// # Errors
    /// When the cryptography has no version of TLS in common with rustls.
    pub fn server_config(self: &Arc<Self>) -> Result<rustls::ServerConfig, rustls::Error> {
        let builder = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
        Ok(builder.with_cert_resolver(Arc::<Self>::clone(self)))
    }

    /// Reads the files again, and takes what is in them from the next connection on.
    pub fn reload(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = stamps(&self.files);
        match Certificate::read(&self.files) {
            Ok(certificate) => {
                let pair = Arc::clone(&certificate.pair);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = pair;
                tracing::info!(not_after = %certificate.not_after, "read the certificate again");
                self.tell(&certificate);
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate cannot be used; the old one stays");
            }
        }
    }

    /// Reads the files again if they changed since they were last read.
    pub fn reload_if_changed(&self) {
        let changed = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen != stamps(&self.files)
        };
        if changed {
            self.reload();
        }
    }

    /// It is served though it is not valid now: a service that did not start helps nobody.
    fn tell(&self, certificate: &Certificate) {
        let Certificate { not_before, not_after, .. } = certificate;
        self.metrics.certificate_expiry.set(not_after.timestamp());
        let now = self.clock.now();
        if now < *not_before || now > *not_after {
            tracing::error!(%not_before, %not_after, "the certificate is not valid now; renew it");
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn stamps(files: &Tls) -> [Option<Stamp>; 2] {
    [&files.cert, &files.key].map(|path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &Tls) -> String {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        made.cert.pem()
    }

    fn in_use(certificates: &Certificates) -> CertificateDer<'static> {
        certificates.current.read().unwrap().cert[0].clone()
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn changed_files_are_read_again_and_bad_ones_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let [cert, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
        let files = Tls { cert, key };
        let metrics = Arc::new(Metrics::new().unwrap());
        let first = der(&write(&files));
        let certificates = Certificates::read(&files, Clock::system(), metrics.clone()).unwrap();
        assert!(metrics.certificate_expiry.get() > 0);
        certificates.reload_if_changed();
        assert_eq!(in_use(&certificates), first);

        // The new certificate beside the old key, then nothing at all.
        let old_key = std::fs::read(&files.key).unwrap();
        let second = der(&write(&files));
        let new_key = std::fs::read(&files.key).unwrap();
        std::fs::write(&files.key, old_key).unwrap();
        certificates.reload_if_changed();
        assert_eq!(in_use(&certificates), first);
        std::fs::remove_file(&files.key).unwrap();
        certificates.reload_if_changed();
        assert_eq!(in_use(&certificates), first);

        std::fs::write(&files.key, new_key).unwrap();
        certificates.reload_if_changed();
        assert_eq!(in_use(&certificates), second);
    }
}
