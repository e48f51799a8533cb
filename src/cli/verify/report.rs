//! Prints a judgement as compilers print errors: the checks in their order, then what is wrong.

use serde_json::{Value, json};

use super::super::{Failure, format, out};
use super::explain;
use super::judge::{Judgement, OF_THE_SERVICE, Problem, Signed};
use crate::signatures::{Algorithm, Body, Checked, Component, Request};

/// What each check requires, from the first to the last.
const CHECKS: [&str; 13] = [
    "Signature and Signature-Input are present and well formed",
    "exactly one signature is meant for this profile",
    "created, expires, nonce and keyid are stated",
    "the algorithm is allowed, and fits the key",
    "the request is fresh",
    "the signature covers enough of the request",
    "the keyid names a key",
    "the key is not revoked",
    "the signer's quota has room",
    "the key made the signature over this request",
    "Content-Digest is the digest of the body",
    "the session is live, and the signer is a party to it",
    "the nonce was never used before",
];

const CLOSING: &str = "valid: every check that needs no database passed. Only the running service \
                       can check replay and revocation: ask POST /v1/verify";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    NotReached,
    NotChecked,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotReached => "not_reached",
            Self::NotChecked => "not_checked",
        }
    }

    fn of(step: u8, problem: Option<&Problem>) -> Self {
        match problem {
            Some(problem) if problem.step == step => Self::Failed,
            _ if OF_THE_SERVICE.contains(&step) => Self::NotChecked,
            Some(problem) if step >= problem.passed_below => Self::NotReached,
            _ => Self::Passed,
        }
    }
}

pub(super) fn print(
    judgement: &Judgement<'_>,
    request: &Request<'_>,
    notes: &[String],
    json: bool,
) -> Result<(), Failure> {
    if json {
        return out::json(&as_json(judgement, request, notes));
    }
    let Body::Seen(content) = request.body else { return Ok(()) };
    out::line(format!("{} {} ({} bytes of body)", request.method, request.target, content.len()))?;
    let (profile, at) = (&judgement.profile.name, format::time(judgement.at));
    out::line(format!("by the profile {profile}, as of {at}"))?;
    for note in notes {
        out::line(format!("note: {note}"))?;
    }
    out::line("")?;
    for (step, check) in (1..).zip(CHECKS) {
        let (mark, remark) = match Outcome::of(step, judgement.problem.as_ref()) {
            Outcome::Passed => ("ok", remark(step, judgement)),
            Outcome::Failed => ("FAIL", String::new()),
            Outcome::NotReached => ("-", "not reached".to_owned()),
            Outcome::NotChecked => ("-", "needs the running service".to_owned()),
        };
        let remark = if remark.is_empty() { remark } else { format!(": {remark}") };
        out::line(format!("{step:3}  {mark:4}  {check}{remark}"))?;
    }
    out::line("")?;
    match &judgement.problem {
        None => out::line(CLOSING),
        Some(problem) => print_problem(problem),
    }
}

fn print_problem(problem: &Problem) -> Result<(), Failure> {
    let Problem { step, code, detail, evidence, help, signed, .. } = problem;
    out::line(format!("error[{}]: {detail}", code.as_str()))?;
    out::line(format!("  --> check {step}"))?;
    for line in evidence {
        out::line(format!("   | {line}"))?;
    }
    out::line(format!("  help: {}", help.replace('\n', "\n      ")))?;
    let Some(Signed { base, by_key }) = signed else { return Ok(()) };
    out::line("  the signature base, as rebuilt from this request:")?;
    for line in base.lines() {
        out::line(format!("   | {}", explain::printable(line)))?;
    }
    out::line(match by_key {
        Some(true) => "  the key at hand made the signature over it",
        Some(false) => "  the key at hand did not make the signature over it",
        None => "  pass --key to learn whether that key made the signature over it",
    })
}

/// What a passed check found.
fn remark(step: u8, judgement: &Judgement<'_>) -> String {
    let Some(checked) = &judgement.checked else { return String::new() };
    match step {
        3 => format!("nonce {}", checked.nonce()),
        4 => judgement.algorithm.map_or(String::new(), |algorithm| algorithm.as_str().to_owned()),
        5 => format!("{} to {}", format::time(checked.created()), format::time(checked.expires())),
        6 => covered(checked).join(" "),
        7 => checked.key_id().to_string(),
        11 if !checked.covers(&Component::field("content-digest")) => "there is none".to_owned(),
        _ => String::new(),
    }
}

fn covered<'c>(checked: &'c Checked<'_>) -> Vec<&'c str> {
    checked.covered().iter().map(|covered| covered.identifier.as_str()).collect()
}

fn as_json(judgement: &Judgement<'_>, request: &Request<'_>, notes: &[String]) -> Value {
    let problem = judgement.problem.as_ref();
    let checked = judgement.checked.as_ref();
    let checks: Vec<_> = (1..)
        .zip(CHECKS)
        .map(|(step, check)| {
            let outcome = Outcome::of(step, problem).as_str();
            json!({ "step": step, "check": check, "outcome": outcome })
        })
        .collect();
    json!({
        "valid": problem.is_none(),
        "problem": problem.map(|problem| json!({
            "step": problem.step,
            "code": problem.code.as_str(),
            "detail": problem.detail,
            "evidence": problem.evidence,
            "signature_base": problem.signed.as_ref().map(|signed| &signed.base),
            "signature_is_the_keys": problem.signed.as_ref().and_then(|signed| signed.by_key),
            "help": problem.help,
        })),
        "method": request.method,
        "url": request.target.to_string(),
        "profile": judgement.profile.name,
        "at": format::time(judgement.at),
        "did": checked.map(|it| it.key_id().did().as_str()),
        "keyid": checked.map(|it| it.key_id().to_string()),
        "alg": judgement.algorithm.map(Algorithm::as_str),
        "created": checked.map(|it| format::time(it.created())),
        "expires": checked.map(|it| format::time(it.expires())),
        "nonce": checked.map(|it| it.nonce().as_str()),
        "covered": checked.map(covered),
        "checks": checks,
        "notes": notes,
    })
}
