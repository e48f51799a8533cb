//! `onceguard token`: makes, lists and revokes API tokens. A token's text is printed only when the
//! token is made.

use std::sync::Arc;

use clap::Subcommand;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Failure, database, format, out};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::{
    Actor, ApiToken, Binding, MAX_EXPIRY_AHEAD_SECONDS, Namespace, TokenScope, TokenScopes,
};
use crate::metrics::Metrics;
use crate::services::{Journal, Tokens};

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token and print it; it cannot be shown again
    #[command(after_help = "Examples:\n  \
        onceguard token create --name agents --scope sessions --scope nonces\n  \
        onceguard token create --name shop --scope nonces --namespace webhooks --max-ttl 1h\n  \
        TOKEN=$(onceguard token create --name deploy --scope dids,revoke --expires-in 30d)\n\n\
        Scopes: sessions, session_keys (to read session keys), nonces, dids,\n\
        revoke (it cannot be undone), verify, records, events (to publish them), audit (to read\n\
        them), webhooks (to have them sent), admin (all of them, and the operator's calls)")]
    Create {
        /// What it is for; shown in lists and in the log of events
        #[arg(long, value_parser = parse_name)]
        name: String,
        /// What it may do. Can be given several times, or as a list with commas
        #[arg(long = "scope", required = true, value_delimiter = ',', value_parser = parse_scope)]
        scopes: Vec<TokenScope>,
        /// How long it is valid: 90s, 45m, 12h or 30d [default: for ever]
        #[arg(long, value_name = "DURATION", value_parser = format::parse_duration)]
        expires_in: Option<u32>,
        /// Bind it to a namespace: it claims and reads there, and can do nothing else. Its scope is
        /// `nonces`
        #[arg(long, value_parser = Namespace::parse)]
        namespace: Option<Namespace>,
        /// How far ahead a nonce that it claims may expire: 90s, 45m or 12h, at most 24h
        /// [default: 24h]
        #[arg(long, value_name = "DURATION", requires = "namespace", value_parser = parse_max_ttl)]
        max_ttl: Option<u32>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List tokens, without their texts
    #[command(after_help = "Example:\n  onceguard token list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token; running instances refuse it within 5 seconds
    #[command(
        after_help = "Example:\n  onceguard token revoke 01939c5e-3b1f-7c02-9d53-0f6a1d7e2b11"
    )]
    Revoke {
        /// The token's id, as `onceguard token list` shows it
        id: Uuid,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Token {
    pub(super) async fn run(self, config: Config) -> Result<(), Failure> {
        let store = database::open_migrated(&config).await?;
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new()?));
        let journal = Journal::of(&config.data_dir, clock.clone(), metrics);
        let tokens = Tokens::new(store.clone(), clock).journaled(journal);
        let result = self.act(&tokens).await;
        store.close().await;
        result
    }

    async fn act(self, tokens: &Tokens) -> Result<(), Failure> {
        match self {
            Self::Create { name, scopes, expires_in, namespace, max_ttl, json } => {
                let scopes = TokenScopes::new(scopes);
                let binding = binding(namespace, max_ttl, &scopes)?;
                let (token, text) =
                    tokens.create(&name, scopes, binding, expires_in, Actor::Operator).await?;
                if json {
                    let mut object = describe(&token);
                    if let Value::Object(fields) = &mut object {
                        fields.insert("token".to_owned(), text.expose().into());
                    }
                    return out::json(&object);
                }
                let expiry = token.expires_at.map_or("never".to_owned(), format::time);
                out::note(format!(
                    "token {} ({}), scopes {}{}, expires {expiry}; keep it, because it is not shown again:",
                    token.id,
                    token.name,
                    words(&token.scopes).join(", "),
                    token.binding.as_ref().map_or(String::new(), |to| format!(
                        " only in the namespace {}, for at most {} s ahead",
                        to.namespace, to.max_ttl_seconds
                    )),
                ));
                out::line(text.expose())
            }
            Self::List { json } => {
                let all = tokens.list().await?;
                if json {
                    return out::json(&json!({
                        "items": all.iter().map(describe).collect::<Vec<_>>()
                    }));
                }
                let rows: Vec<_> = all.iter().map(row).collect();
                let columns =
                    ["ID", "NAME", "SCOPES", "NAMESPACE", "STATE", "CREATED", "LAST USED"];
                out::table(columns, &rows)
            }
            Self::Revoke { id, json } => match tokens.revoke(id, Actor::Operator).await? {
                None => Err(Failure::Failed(format!(
                    "there is no token {id}; `onceguard token list` shows all tokens"
                ))),
                Some(token) if json => out::json(&describe(&token)),
                Some(token) => {
                    out::line(format!("{} ({}): {}", token.id, token.name, state(&token)))
                }
            },
        }
    }
}

fn parse_scope(text: &str) -> Result<TokenScope, String> {
    TokenScope::parse(text).ok_or_else(|| {
        format!("must be one of {}", TokenScope::ALL.map(TokenScope::as_str).join(", "))
    })
}

fn parse_name(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if (1..=100).contains(&length) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("must have 1 to 100 characters, without control characters".to_owned())
    }
}

fn parse_max_ttl(text: &str) -> Result<u32, String> {
    match format::parse_duration(text)? {
        seconds if seconds <= MAX_EXPIRY_AHEAD_SECONDS => Ok(seconds),
        _ => Err("must be at most 24h".to_owned()),
    }
}

/// What confines the token to a namespace, if one is given.
fn binding(
    namespace: Option<Namespace>,
    max_ttl: Option<u32>,
    scopes: &TokenScopes,
) -> Result<Option<Binding>, Failure> {
    let Some(namespace) = namespace else { return Ok(None) };
    if scopes.as_slice() != [TokenScope::Nonces] {
        return Err(Failure::Usage(format!(
            "a token that is bound to a namespace has only the scope nonces, not {}: make another \
             token for the others",
            words(scopes).join(", ")
        )));
    }
    let max_ttl_seconds = max_ttl.unwrap_or(MAX_EXPIRY_AHEAD_SECONDS);
    Ok(Some(Binding { namespace, max_ttl_seconds }))
}

fn words(scopes: &TokenScopes) -> Vec<&'static str> {
    scopes.as_slice().iter().map(|scope| scope.as_str()).collect()
}

fn state(token: &ApiToken) -> String {
    match (token.revoked_at, token.expires_at) {
        (Some(at), _) => format!("revoked {}", format::time(at)),
        (None, Some(at)) if !token.is_valid() => format!("expired {}", format::time(at)),
        (None, Some(at)) => format!("valid until {}", format::time(at)),
        (None, None) => "valid".to_owned(),
    }
}

fn row(token: &ApiToken) -> [String; 7] {
    [
        token.id.to_string(),
        token.name.clone(),
        words(&token.scopes).join(","),
        token.binding.as_ref().map_or("any".to_owned(), |to| to.namespace.to_string()),
        state(token),
        format::time(token.created_at),
        token.last_used_at.map_or("never".to_owned(), format::time),
    ]
}

fn describe(token: &ApiToken) -> Value {
    json!({
        "id": token.id,
        "name": token.name,
        "scopes": words(&token.scopes),
        "namespace": token.binding.as_ref().map(|to| to.namespace.as_str()),
        "max_ttl_seconds": token.binding.as_ref().map(|to| to.max_ttl_seconds),
        "valid": token.is_valid(),
        "created_at": format::time(token.created_at),
        "expires_at": token.expires_at.map(format::time),
        "last_used_at": token.last_used_at.map(format::time),
        "revoked_at": token.revoked_at.map(format::time),
    })
}
