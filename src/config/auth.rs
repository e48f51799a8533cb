//! `[auth]`: the first credential.

use secrecy::SecretString;

use super::reader::{Given, MASK, Reader, Show};

/// `[auth]`.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The admin token to have, instead of a random one in the data folder.
    pub admin_token: Option<SecretString>,
}

impl Auth {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let parse = |given: &Given| match given.text() {
            Some(text) if is_strong_token(text) => Ok(SecretString::from(text)),
            _ => Err("must be `og_` and 40 to 200 letters, digits, `-` or `_`, such as \
                 og_$(openssl rand -hex 32)"
                .to_owned()),
        };
        Self {
            admin_token: reader.optional("auth.admin_token", Show::Secret, parse, |_| MASK.into()),
        }
    }
}

/// Whether the text has the form of a token, and room for 160 bits and more.
fn is_strong_token(text: &str) -> bool {
    text.strip_prefix("og_").is_some_and(|rest| {
        (40..=200).contains(&rest.len())
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    })
}
