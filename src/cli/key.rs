//! `onceguard key`: the keys that agents sign with. A secret key is written only to its file.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Failure, format, out};
use crate::data_dir::sync_name;
use crate::domain::{Did, DidUrl, KeyType, PublicKey};
use crate::resolvers::did_key;
use crate::signatures::{SigningKey, public_key_from_pem};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a key, write it to a file that only you can read, and print its did:key
    #[command(after_help = "The file is PEM (PKCS#8), as OpenSSL writes it. It is never \
        overwritten.\n\n\
        Examples:\n  \
        onceguard key new\n  \
        DID=$(onceguard key new --type secp256k1 --out ~/.config/agent.key)")]
    New {
        /// ed25519, secp256k1 or p256
        #[arg(long = "type", value_name = "TYPE", default_value = "ed25519",
              value_parser = format::parse_key_type)]
        key_type: KeyType,
        /// Where to write it
        #[arg(long, value_name = "FILE", default_value = "agent.key")]
        out: PathBuf,
    },
    /// Show a key's type, DID, keyid and public half; never the secret
    #[command(after_help = "FILE holds a private key (PKCS#8 PEM) or a public one (PEM).\n\n\
        Example:\n  onceguard key show agent.key")]
    Show {
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a key's did:key
    #[command(after_help = "Example:\n  DID=$(onceguard key did agent.key)")]
    Did { file: PathBuf },
}

impl Key {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::New { key_type, out: path } => {
                let key = generate(key_type)?;
                let did = did(key.public_key())?;
                write_new(&path, &key)?;
                out::note(format!(
                    "A new {key_type} key is in {}. Anyone who can read this file can sign as:",
                    path.display()
                ));
                out::line(did.as_str())
            }
            Self::Show { file, json } => show(&read_public(&file)?, json),
            Self::Did { file } => out::line(did(&read_public(&file)?)?.as_str()),
        }
    }
}

fn generate(key_type: KeyType) -> Result<SigningKey, Failure> {
    loop {
        // Very rarely, the bytes are not a scalar of the curve.
        if let Ok(key) = SigningKey::from_bytes(key_type, &*random()?) {
            return Ok(key);
        }
    }
}

pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Failure> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| Failure::Failed(format!("the system gives no random bytes: {error}")))?;
    Ok(bytes)
}

/// Writes a key to a new file, which has mode 0600 from its first byte.
fn write_new(path: &Path, key: &SigningKey) -> Result<(), Failure> {
    let pem = key.to_pem().map_err(|error| Failure::Failed(error.to_string()))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::Refused(format!(
            "{}: exists already, and keys are never overwritten; choose another file with --out",
            path.display()
        )),
        _ => cannot("write", path, &error),
    })?;
    file.write_all(pem.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_name(path))
        .map_err(|error| {
            let _ = std::fs::remove_file(path);
            cannot("write", path, &error)
        })
}

/// The key of a file, to sign with.
pub(super) fn read_secret(path: &Path) -> Result<SigningKey, Failure> {
    SigningKey::from_pem(&read(path)?).map_err(|error| not_a_key(path, error))
}

/// The public key of a file, which may hold either half.
pub(super) fn read_public(path: &Path) -> Result<PublicKey, Failure> {
    public_key_from_pem(&read(path)?).map_err(|error| not_a_key(path, error))
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| cannot("read", path, &error))
}

fn cannot(act: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("cannot {act} {}: {error}", path.display()))
}

fn not_a_key(path: &Path, error: crate::signatures::InvalidPem) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

/// The did:key of a key.
pub(super) fn did(key: &PublicKey) -> Result<Did, Failure> {
    did_key::encode(key).map_err(|error| Failure::Failed(error.to_string()))
}

/// The DID URL of a did:key's only key. Its fragment repeats the key.
pub(super) fn keyid(did: &Did) -> Result<DidUrl, Failure> {
    DidUrl::parse(&format!("{did}#{}", did.method_specific_id()))
        .map_err(|error| Failure::Failed(error.to_string()))
}

fn show(key: &PublicKey, json: bool) -> Result<(), Failure> {
    let did = did(key)?;
    let keyid = keyid(&did)?.to_string();
    let public_key = STANDARD.encode(key.as_bytes());
    if json {
        return out::json(&json!({
            "key_type": key.key_type().as_str(),
            "did": did.as_str(),
            "keyid": keyid,
            "public_key": public_key,
        }));
    }
    out::line(format!("type        {}", key.key_type()))?;
    out::line(format!("did         {did}"))?;
    out::line(format!("keyid       {keyid}"))?;
    out::line(format!("public key  {public_key}"))
}
