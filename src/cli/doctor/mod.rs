//! `onceguard doctor`: checks what serving needs, changes nothing, and says what to do. It asks the
//! running instance for what only that can see.

mod check;
mod instance;
mod machine;
pub(super) mod settings;
mod storage;
mod webhooks;

use clap::Args;
use serde_json::json;

use self::check::{Check, Verdict};
use super::{Failure, out, quiet};
use crate::config::{Config, InvalidConfig, Need, Sources};

#[derive(Debug, Args)]
#[command(after_help = "Exits with 1 when a check fails, and with 0 when there are only \
    warnings.\n\nExample:\n  onceguard doctor --config config/production.toml")]
pub(super) struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) async fn run(self, sources: &Sources) -> Result<(), Failure> {
        let checks = match quiet(sources, Need::Everything) {
            Ok(config) => examine(&config).await,
            Err(Failure::Config(InvalidConfig(problems))) => {
                problems.iter().map(|it| Check::fail("configuration", it.to_string())).collect()
            }
            Err(failure) => return Err(failure),
        };
        self.print(&checks)?;
        let failed = checks.iter().filter(|check| check.verdict == Verdict::Fail).count();
        if failed == 0 {
            return Ok(());
        }
        Err(Failure::Failed(format!("{failed} of {} checks failed", checks.len())))
    }

    fn print(&self, checks: &[Check]) -> Result<(), Failure> {
        if self.json {
            let items: Vec<_> = checks
                .iter()
                .map(|check| {
                    json!({
                        "check": check.name,
                        "verdict": check.verdict.as_str(),
                        "detail": check.detail,
                    })
                })
                .collect();
            return out::json(&json!({ "checks": items }));
        }
        for Check { name, verdict, detail } in checks {
            out::line(format!("{:4}  {name:13}  {detail}", verdict.as_str()))?;
        }
        Ok(())
    }
}

async fn examine(config: &Config) -> Vec<Check> {
    let mut checks = vec![Check::ok("configuration", "every key is valid")];
    checks.extend(settings::checks(config));
    checks.push(machine::folder(config));
    checks.push(machine::space(&config.data_dir));
    checks.extend(storage::checks(config).await);
    checks.push(machine::port("API port", config.server.listen, config));
    checks.push(machine::port("ops port", config.ops.listen, config));
    checks.push(instance::check(config));
    checks
}
