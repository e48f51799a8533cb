//! `[auth]`: the first credential.

use secrecy::SecretString;

use super::reader::{Given, MASK, Reader, Show};
use crate::domain::TokenText;

/// `[auth]`.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The admin token, instead of a random one in the data folder.
    pub admin_token: Option<SecretString>,
}

impl Auth {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let parse = |given: &Given| {
            let text = given.text().ok_or("must be text")?;
            TokenText::parse(text).map_err(|error| error.to_string())?;
            Ok(SecretString::from(text))
        };
        Self {
            admin_token: reader.optional("auth.admin_token", Show::Secret, parse, |_| MASK.into()),
        }
    }
}
