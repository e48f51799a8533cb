//! `onceguard config`: what the configuration says, and whether it can be used.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Failure, doctor, out};
use crate::config::{Need, Origin, Setting, Sources};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// List every mistake in the configuration and in the files that it names
    #[command(after_help = "Example:\n  onceguard config check --config config/production.toml")]
    Check,
    /// Print every key with its value and the value's origin; secrets are masked
    #[command(
        after_help = "The output is a valid configuration file, except that secrets are masked.\n\n\
        Examples:\n  onceguard config show --config config/production.toml\n  \
        onceguard config show --json"
    )]
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl ConfigCommand {
    pub(super) fn run(&self, sources: &Sources) -> Result<(), Failure> {
        match self {
            Self::Check => {
                let config = sources.load(Need::Everything)?.config;
                doctor::settings::report(&config)?;
                out::line("the configuration is valid")
            }
            Self::Show { json } => {
                let settings = sources.load(Need::Database)?.settings;
                if *json { show_json(&settings) } else { show_toml(&settings) }
            }
        }
    }
}

fn show_json(settings: &[Setting]) -> Result<(), Failure> {
    let items: Vec<_> = settings
        .iter()
        .map(|setting| {
            let source = match &setting.origin {
                Origin::Default => "default".to_owned(),
                origin => origin.to_string(),
            };
            json!({ "key": setting.key, "value": setting.value, "source": source })
        })
        .collect();
    out::json(&json!({ "settings": items }))
}

/// Prints a valid configuration file, except that secrets are masked.
fn show_toml(settings: &[Setting]) -> Result<(), Failure> {
    let mut current = "";
    for setting in settings {
        let (section, name) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
        if section != current {
            out::line(format!("\n[{section}]"))?;
            current = section;
        }
        let origin = match &setting.origin {
            Origin::Default => String::new(),
            origin => format!("  # from {origin}"),
        };
        match &setting.value {
            Value::Null => out::line(format!("# {name} is not set"))?,
            // TOML writes these values as JSON does.
            value => out::line(format!("{name} = {value}{origin}"))?,
        }
    }
    Ok(())
}
