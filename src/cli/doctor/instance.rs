//! What the running instance of this data folder reports of itself, such as a clock that jumped.

use serde_json::Value;

use super::check::Check;
use crate::cli::health;
use crate::config::Config;

pub(super) fn check(config: &Config) -> Check {
    const NAME: &str = "instance";
    let Ok(answer) = health::ask(config) else {
        return Check::ok(NAME, "no instance is running here");
    };
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let reasons: Vec<_> = said
        .get("reasons")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let reasons = reasons.join("; ");
    match (answer.status, said.get("status").and_then(Value::as_str)) {
        (200, Some("healthy")) => Check::ok(NAME, "it is running, and ready"),
        (200, _) => Check::warn(NAME, format!("it is running, but {reasons}")),
        (status, _) => Check::fail(NAME, format!("it is not ready ({status}): {reasons}")),
    }
}
