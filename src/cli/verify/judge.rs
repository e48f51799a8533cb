//! The checks in their order, as far as they need no database. It calls the same functions as the
//! service.

use super::explain;
use crate::domain::{Code, DidUrl, PublicKey, Timestamp};
use crate::resolvers::did_key;
use crate::signatures::{
    Algorithm, Checked, NotVerified, Profile, Refused, Request, Target, VerifyingKey, check,
    inspect,
};

/// The checks that need the running service.
pub(super) const OF_THE_SERVICE: [u8; 4] = [8, 9, 12, 13];

pub(super) struct Judgement<'a> {
    pub(super) profile: &'a Profile,
    pub(super) at: Timestamp,
    /// Present once checks 1 to 6 have passed.
    pub(super) checked: Option<Checked<'a>>,
    pub(super) algorithm: Option<Algorithm>,
    /// `None` when every check that can be made here has passed.
    pub(super) problem: Option<Problem>,
}

/// The first failed check, explained.
pub(super) struct Problem {
    pub(super) step: u8,
    /// Every check before this one has passed, except `step`.
    pub(super) passed_below: u8,
    pub(super) code: Code,
    pub(super) detail: String,
    /// The lines of the request that the refusal is about.
    pub(super) evidence: Vec<String>,
    pub(super) help: String,
    /// What was signed, and by which key, independently of the checks in between. `None` when it is
    /// not clear which signature is meant, or what it covers.
    pub(super) signed: Option<Signed>,
}

/// The signature base of a refused signature.
pub(super) struct Signed {
    pub(super) base: String,
    /// Whether the key at hand made the signature.
    pub(super) by_key: Option<bool>,
}

/// Judges a request. `given` is the key for a signer whose DID is not a did:key.
pub(super) fn judge<'a>(
    request: &Request<'a>,
    profile: &'a Profile,
    given: Option<&PublicKey>,
    at: Timestamp,
) -> Judgement<'a> {
    let mut judgement = Judgement { profile, at, checked: None, algorithm: None, problem: None };
    let outcome = match check(request, profile, at) {
        Ok(checked) => {
            let outcome = judge_with_key(request, &checked, given, at);
            judgement.checked = Some(checked);
            outcome
        }
        Err(refused) => Err(problem(&refused, refused.step(), request, profile, at)),
    };
    match outcome {
        Ok(algorithm) => judgement.algorithm = Some(algorithm),
        Err(problem) => {
            let signed = signed(request, profile, given);
            judgement.problem = Some(Problem { signed, ..problem });
        }
    }
    judgement
}

/// The refused signature's base, and whether the given key, or the keyid's did:key, made it.
fn signed(request: &Request<'_>, profile: &Profile, given: Option<&PublicKey>) -> Option<Signed> {
    let inspected = inspect(request, profile)?;
    let of_keyid = || {
        let url = DidUrl::parse(inspected.keyid.as_deref()?).ok()?;
        let is_key = url.did().method() == did_key::METHOD;
        is_key.then(|| did_key::resolve(url.did()).ok()).flatten()
    };
    let key = given.cloned().or_else(of_keyid).and_then(|key| VerifyingKey::new(&key).ok());
    let by_key = key.map(|key| inspected.verifies(&key, profile));
    Some(Signed { base: inspected.base, by_key })
}

/// Check 7, the rest of 4, 10 and 11.
#[allow(clippy::result_large_err, reason = "a command makes one")]
fn judge_with_key(
    request: &Request<'_>,
    checked: &Checked<'_>,
    given: Option<&PublicKey>,
    at: Timestamp,
) -> Result<Algorithm, Problem> {
    let profile = checked.profile();
    let key = find_key(checked.key_id(), given)?;
    let key = VerifyingKey::new(&key).map_err(|error| {
        unknown(error.to_string(), "the signer needs another key: onceguard key new")
    })?;
    let bound =
        checked.with_key(&key).map_err(|refused| problem(&refused, 8, request, profile, at))?;
    match bound.verify() {
        Ok(()) => Ok(bound.algorithm()),
        Err(refused) => {
            let mut problem = problem(&refused, refused.step(), request, profile, at);
            if refused == Refused::Invalid(NotVerified::Signature)
                && let Some(scheme) = scheme_that_verifies(request, profile, &key, at)
            {
                problem.help = format!(
                    "it was signed for {scheme}://: if that is how the request came, pass \
                     --url-scheme {scheme}; else sign the URL that the request is sent to"
                );
            }
            Err(problem)
        }
    }
}

/// The other scheme, when the signature verifies for it.
fn scheme_that_verifies(
    request: &Request<'_>,
    profile: &Profile,
    key: &VerifyingKey,
    at: Timestamp,
) -> Option<&'static str> {
    let scheme = if request.target.scheme() == "https" { "http" } else { "https" };
    let path_and_query = request.target.path_and_query();
    let target = Target::new(scheme, request.target.authority(), &path_and_query).ok()?;
    let request = Request { target, ..*request };
    let verified = check(&request, profile, at).ok()?.with_key(key).ok()?.verify();
    matches!(verified, Ok(()) | Err(Refused::Digest(_))).then_some(scheme)
}

/// Check 7, which can read only a did:key here.
#[allow(clippy::result_large_err, reason = "a command makes one")]
fn find_key(key_id: &DidUrl, given: Option<&PublicKey>) -> Result<PublicKey, Problem> {
    let did = key_id.did();
    if did.method() != did_key::METHOD {
        return given.cloned().ok_or_else(|| unavailable(key_id));
    }
    let key = did_key::resolve(did).map_err(|error| {
        unknown(
            format!("{did} does not hold a key: {error}"),
            "`onceguard key did FILE` prints the did:key of a key",
        )
    })?;
    if key_id.fragment().is_some_and(|fragment| fragment != did.method_specific_id()) {
        return Err(unknown(
            format!("{did} has no key #{}", key_id.fragment().unwrap_or_default()),
            "a did:key has one key, and its fragment is the key itself; or leave out the fragment",
        ));
    }
    match given {
        Some(given) if *given != key => Err(unknown(
            format!("the keyid is {did}, which is not the key of --key"),
            "another key signed the request; without --key, the keyid decides which key is used",
        )),
        _ => Ok(key),
    }
}

fn unknown(detail: String, help: &str) -> Problem {
    key_problem(Code::SignatureKeyUnknown, detail, help.to_owned())
}

fn unavailable(key_id: &DidUrl) -> Problem {
    let detail = format!("the key of {key_id} is not at hand: only a did:key contains its key");
    let help = "pass the signer's key: --key FILE (PEM), or --key did:key:…".to_owned();
    key_problem(Code::SignatureKeyUnavailable, detail, help)
}

fn key_problem(code: Code, detail: String, help: String) -> Problem {
    let evidence = Vec::new();
    Problem { step: 7, passed_below: 7, code, detail, evidence, help, signed: None }
}

fn problem(
    refused: &Refused,
    passed_below: u8,
    request: &Request<'_>,
    profile: &Profile,
    at: Timestamp,
) -> Problem {
    Problem {
        step: refused.step(),
        passed_below,
        code: refused.into(),
        detail: refused.to_string(),
        evidence: explain::evidence(refused, request),
        help: explain::help(refused, profile, at),
        signed: None,
    }
}
