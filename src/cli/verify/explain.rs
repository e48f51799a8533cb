//! What to show of a refused request, and what to do about the refusal.

use crate::domain::Timestamp;
use crate::signatures::{
    Algorithm, AlgorithmNotAllowed, Body, DigestMismatch, IncompleteComponents,
    IncompleteParameters, InvalidComponent, Malformed, NotVerified, OutsideWindow, Profile,
    Refused, Request, TagMismatch, content_digest,
};

use super::super::format;

/// The lines of the request that the refusal is about.
pub(super) fn evidence(refused: &Refused, request: &Request<'_>) -> Vec<String> {
    match refused {
        Refused::Malformed(_) => {
            [lines("Signature-Input", request), lines("Signature", request)].concat()
        }
        Refused::Tag(_)
        | Refused::Parameters(_)
        | Refused::Algorithm(_)
        | Refused::Window(_)
        | Refused::Components(_)
        | Refused::KeyUnknown(_)
        | Refused::Invalid(NotVerified::NoBase(_)) => lines("Signature-Input", request),
        // The signature base is shown, and says more.
        Refused::Required | Refused::Invalid(NotVerified::Signature) => Vec::new(),
        Refused::Digest(_) => {
            let mut shown = lines("Content-Digest", request);
            if let Body::Seen(content) = request.body {
                shown.push(format!("this body:      {}", content_digest(content)));
            }
            shown
        }
    }
}

fn lines(name: &str, request: &Request<'_>) -> Vec<String> {
    request
        .headers
        .iter()
        .filter(|(line, _)| line.eq_ignore_ascii_case(name))
        .map(|(_, value)| format!("{name}: {}", printable(&String::from_utf8_lossy(value))))
        .collect()
}

/// A text in which control characters are escaped.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// What to do.
pub(super) fn help(refused: &Refused, profile: &Profile, at: Timestamp) -> String {
    match refused {
        Refused::Required => {
            "the client must sign it; `onceguard sign` shows how, and prints the headers".to_owned()
        }
        Refused::Malformed(malformed) => of_malformed(malformed).to_owned(),
        Refused::Tag(tag) => of_tag(tag),
        Refused::Parameters(parameters) => of_parameters(parameters, profile),
        Refused::Algorithm(algorithm) => of_algorithm(algorithm, profile),
        Refused::Window(window) => of_window(*window, profile, at),
        Refused::Components(components) => of_components(components),
        Refused::KeyUnknown(_) => {
            "the keyid must be a DID, or a DID and # and the name of one of its keys: the service \
             finds the key by its keyid, and does not know --key"
                .to_owned()
        }
        Refused::Invalid(NotVerified::NoBase(no_base)) => format!(
            "the signer had a value for {}: find out where on the way it was removed or changed, or do \
             not cover it",
            no_base.identifier
        ),
        Refused::Invalid(NotVerified::Signature) => {
            "compare this signature base with the signer's, line by line: a line that differs was \
             changed on the way (proxies rewrite Host, path and query); if none does, it was \
             signed with another key than the keyid says, or another algorithm"
                .to_owned()
        }
        Refused::Digest(digest) => of_digest(digest).to_owned(),
    }
}

const fn of_malformed(malformed: &Malformed) -> &'static str {
    match malformed {
        Malformed::Alone { .. } => "find out where on the way the other field was removed",
        Malformed::TooLong(_) => "cover fewer components, and send fewer signatures",
        Malformed::Field { .. } => {
            "it should look like\n  \
             Signature-Input: sig1=(\"@method\" \"@target-uri\");created=1795176000;…\n  \
             Signature: sig1=:base64:"
        }
        Malformed::Unpaired(_) => "give both fields the same labels, each once",
    }
}

fn of_tag(tag: &TagMismatch) -> String {
    match tag {
        TagMismatch::Tagged { tag, found: 0 } => format!(
            "sign with ;tag={tag:?} (capitals count); or judge it by another profile: --profile"
        ),
        TagMismatch::Tagged { .. } | TagMismatch::Untagged(_) => {
            "send one: of several, a receiver could check one and trust another".to_owned()
        }
    }
}

fn of_parameters(parameters: &IncompleteParameters, profile: &Profile) -> String {
    match parameters {
        IncompleteParameters::Missing(name @ ("created" | "expires")) => format!(
            "add ;{name}= and the time in seconds since 1970; from created to expires are at most \
             {} seconds",
            profile.max_window.num_seconds()
        ),
        IncompleteParameters::Missing("nonce") | IncompleteParameters::Nonce { .. } => {
            "add ;nonce= and a fresh random text in quotes, such as 16 random bytes in base64url"
                .to_owned()
        }
        IncompleteParameters::Missing("alg") => {
            format!("add ;alg= and one of: {}", algorithms(profile))
        }
        IncompleteParameters::Missing(_) | IncompleteParameters::EmptyKeyId => {
            "add ;keyid= and the signer's DID in quotes".to_owned()
        }
    }
}

fn of_algorithm(algorithm: &AlgorithmNotAllowed, profile: &Profile) -> String {
    let allowed = algorithms(profile);
    match algorithm {
        AlgorithmNotAllowed::Stated(_) => format!("the profile allows {allowed}"),
        AlgorithmNotAllowed::KeyType(_) => {
            format!("the profile allows {allowed}: sign with a key of another type")
        }
        AlgorithmNotAllowed::OtherKeyType { key_type, .. } => {
            match profile.algorithm_for(*key_type).and_then(Algorithm::parameter) {
                Some(alg) => format!("state ;alg={alg:?}, and sign with it; or leave alg out"),
                None => "leave alg out: the key's type says it".to_owned(),
            }
        }
    }
}

fn algorithms(profile: &Profile) -> String {
    let names = profile.algorithms.iter().map(|algorithm| match algorithm.parameter() {
        Some(name) => format!("{name} ({} key)", algorithm.key_type()),
        None => format!("{} ({} key, without alg)", algorithm.as_str(), algorithm.key_type()),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn of_window(window: OutsideWindow, profile: &Profile, at: Timestamp) -> String {
    let now = format!(
        "it is judged as of {} ({}), with {} seconds of tolerance",
        at.timestamp(),
        format::time(at),
        profile.skew.num_seconds()
    );
    match window {
        OutsideWindow::NoTime => "write times in seconds since 1970".to_owned(),
        OutsideWindow::Backwards => "sign with a later expires".to_owned(),
        OutsideWindow::TooLong(_) => "sign with an earlier expires".to_owned(),
        OutsideWindow::Future | OutsideWindow::Expired => {
            format!("{now}; --at TIME judges it as of when it was received")
        }
    }
}

fn of_components(components: &IncompleteComponents) -> String {
    match components {
        IncompleteComponents::NotCovered(_) => {
            "add it to the list in parentheses, and send what it names; whatever is not covered \
             can be changed on the way"
                .to_owned()
        }
        IncompleteComponents::Invalid(InvalidComponent::Twice(_)) => "cover it once".to_owned(),
        IncompleteComponents::Invalid(_) => "take it out of the list in parentheses".to_owned(),
    }
}

const fn of_digest(digest: &DigestMismatch) -> &'static str {
    match digest {
        DigestMismatch::Malformed(_) => {
            "it should look like Content-Digest: sha-256=:base64:, in padded base64"
        }
        DigestMismatch::NoneUsable => "send Content-Digest with sha-256 or sha-512",
        DigestMismatch::Differs(_) => {
            "the body is not the one that was signed: one more line end, another encoding or \
             order of JSON is enough. Send the signed bytes; if the file was edited, restore it"
        }
    }
}
