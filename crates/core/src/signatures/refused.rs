//! Why a signature is refused: one variant for each code of the order of checks that needs no
//! I/O. The codes are part of the HTTP contract.

use super::base::NoBase;
use super::components::{Component, InvalidComponent};
use super::digest::DigestMismatch;
use super::parse::Malformed;
use crate::domain::{Code, InvalidDidUrl, KeyType};

/// The first check that a message did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the request is not signed: it has no Signature-Input and no Signature field")]
    Required,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Tag(#[from] TagMismatch),
    #[error(transparent)]
    Parameters(#[from] IncompleteParameters),
    #[error(transparent)]
    Algorithm(#[from] AlgorithmNotAllowed),
    #[error(transparent)]
    Window(#[from] OutsideWindow),
    #[error(transparent)]
    Components(#[from] IncompleteComponents),
    #[error("the keyid is not the DID URL of a key: {0}")]
    KeyUnknown(#[from] InvalidDidUrl),
    #[error(transparent)]
    Invalid(#[from] NotVerified),
    #[error(transparent)]
    Digest(#[from] DigestMismatch),
}

impl From<&Refused> for Code {
    fn from(refused: &Refused) -> Self {
        match refused {
            Refused::Required => Self::SignatureRequired,
            Refused::Malformed(_) => Self::SignatureMalformed,
            Refused::Tag(_) => Self::SignatureTagInvalid,
            Refused::Parameters(_) => Self::SignatureParamsIncomplete,
            Refused::Algorithm(_) => Self::SignatureAlgNotAllowed,
            Refused::Window(_) => Self::SignatureWindowInvalid,
            Refused::Components(_) => Self::SignatureComponentsIncomplete,
            Refused::KeyUnknown(_) => Self::SignatureKeyUnknown,
            Refused::Invalid(_) => Self::SignatureInvalid,
            Refused::Digest(_) => Self::SignatureDigestMismatch,
        }
    }
}

impl Refused {
    /// The number of the check, counted from 1, that the message did not pass.
    #[must_use]
    pub const fn step(&self) -> u8 {
        match self {
            Self::Required | Self::Malformed(_) => 1,
            Self::Tag(_) => 2,
            Self::Parameters(_) => 3,
            Self::Algorithm(_) => 4,
            Self::Window(_) => 5,
            Self::Components(_) => 6,
            Self::KeyUnknown(_) => 7,
            Self::Invalid(_) => 10,
            Self::Digest(_) => 11,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagMismatch {
    #[error("{found} signatures have the tag {tag:?}: exactly one must")]
    Tagged { tag: String, found: usize },
    #[error("the request has {0} signatures: this profile takes exactly one")]
    Untagged(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IncompleteParameters {
    #[error("the signature has no {0} parameter")]
    Missing(&'static str),
    #[error("the nonce must be {min} to 255 visible ASCII characters")]
    Nonce { min: usize },
    #[error("the keyid is empty")]
    EmptyKeyId,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmNotAllowed {
    #[error("the profile does not allow alg={0:?}")]
    Stated(String),
    #[error("the profile allows no algorithm for a key of type {0}")]
    KeyType(KeyType),
    #[error("alg={stated:?} is not for a key of type {key_type}")]
    OtherKeyType { stated: String, key_type: KeyType },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutsideWindow {
    #[error("created or expires is no time that we can reckon with")]
    NoTime,
    #[error("expires must be after created")]
    Backwards,
    #[error("created is in the future: check the signer's clock, and this one")]
    Future,
    #[error("the signature has expired: sign the request again")]
    Expired,
    #[error("from created to expires are more than the {0} seconds that the profile allows")]
    TooLong(i64),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IncompleteComponents {
    #[error(transparent)]
    Invalid(#[from] InvalidComponent),
    #[error("the signature does not cover {}", alternatives(.0))]
    NotCovered(Vec<Vec<Component>>),
}

fn alternatives(alternatives: &[Vec<Component>]) -> String {
    let all = |set: &Vec<Component>| {
        set.iter().map(|component| format!("\"{component}\"")).collect::<Vec<_>>().join(" and ")
    };
    alternatives.iter().map(all).collect::<Vec<_>>().join(", nor ")
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    #[error(transparent)]
    NoBase(#[from] NoBase),
    #[error("the signature is not this key's over this request")]
    Signature,
}
