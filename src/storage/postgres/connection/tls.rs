//! TLS to PostgreSQL, with the meaning that libpq gives to each `sslmode` (PostgreSQL
//! documentation, section 34.19.1). It never uses the process's default provider, and never
//! trusts more than the mode says.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::authorities;
use crate::config::{PostgresOptions, SslMode};
use crate::storage::{Result, StoreError};

/// When to encrypt.
#[derive(Clone)]
pub(crate) enum Tls {
    Never,
    /// When the server can; otherwise in the clear.
    IfPossible(MakeRustlsConnect),
    Always(MakeRustlsConnect),
}

/// How far a server's certificate is looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    /// The chain to a trusted authority, but not the host's name.
    Chain,
    ChainAndName,
}

impl Tls {
    /// What these options ask for. A server that is not on this machine is not spoken to in the
    /// clear unless `allow_plaintext`: then `prefer` no longer falls back.
    ///
    /// # Errors
    /// When that refuses `disable`, or the authorities cannot be read.
    pub(crate) fn new(options: &PostgresOptions, allow_plaintext: bool) -> Result<Self> {
        let may_be_plain = allow_plaintext || options.is_local();
        // libpq: with a root certificate, the chain is verified in every mode that encrypts.
        let has_root = options.ssl_root_cert.is_some();
        let check = match options.ssl_mode {
            SslMode::Disable if may_be_plain => return Ok(Self::Never),
            SslMode::Disable => {
                return Err(StoreError::Unavailable(
                    "sslmode=disable would send everything in the clear to a database on another \
                     machine: use sslmode=verify-full, or set database.allow_plaintext = true"
                        .into(),
                ));
            }
            SslMode::Prefer | SslMode::Require if has_root => Check::Chain,
            SslMode::Prefer | SslMode::Require => Check::Nothing,
            SslMode::VerifyCa => Check::Chain,
            SslMode::VerifyFull => Check::ChainAndName,
        };
        let connect =
            MakeRustlsConnect::new(client_config(check, options.ssl_root_cert.as_deref())?);
        Ok(match options.ssl_mode {
            SslMode::Prefer if may_be_plain => Self::IfPossible(connect),
            _ => Self::Always(connect),
        })
    }
}

fn client_config(check: Check, root_cert: Option<&Path>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Unexpected(format!("TLS cannot be set up: {error}")))?;
    let config = match check {
        Check::ChainAndName => builder.with_root_certificates(roots(root_cert)?),
        Check::Chain | Check::Nothing => {
            let roots = if check == Check::Chain { Some(roots(root_cert)?) } else { None };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(WithoutName { roots, provider }))
        }
    };
    Ok(config.with_no_client_auth())
}

fn roots(root_cert: Option<&Path>) -> Result<RootCertStore> {
    if let Some(path) = root_cert {
        return authorities::of_file(path).map_err(|error| {
            StoreError::Unavailable(format!("sslrootcert {}: {error}", path.display()))
        });
    }
    let mut roots = RootCertStore::empty();
    authorities::add_system(&mut roots);
    if roots.is_empty() {
        return Err(StoreError::Unavailable(
            "no authority to trust was found in the system: name a PEM file with sslrootcert"
                .into(),
        ));
    }
    Ok(roots)
}

/// Verifies the chain if it has `roots`, never the host's name, and always that the server
/// holds its certificate's key.
#[derive(Debug)]
struct WithoutName {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for WithoutName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
