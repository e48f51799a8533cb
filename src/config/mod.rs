//! The configuration: built-in defaults, then a file, then the environment, then flags. Each
//! section has a file here, with its keys, their defaults and their allowed values.
//! `config/default.toml` documents every key. No error and no `Debug` shows a secret.

mod agents;
mod auth;
mod backup;
mod claims;
mod database;
mod database_url;
mod dids;
mod events;
mod forward_auth;
mod host;
mod identifiers;
mod jobs;
mod limits;
mod load;
mod log;
mod ops;
mod problem;
mod reader;
mod records;
mod recovery;
mod resolvers;
mod sealing;
mod server;
mod sessions;
mod signatures;
#[cfg(test)]
mod tests;
mod webhooks;

use std::path::PathBuf;

pub use agents::{Agents, AllowedAgent, AllowedAgents};
pub use auth::Auth;
pub use backup::{Backup, parse_recipient};
pub use claims::Claims;
pub use database::{Database, Pool};
pub use database_url::{DatabaseUrl, InvalidDatabaseUrl, PostgresOptions, SqliteLocation, SslMode};
pub use dids::Dids;
pub use events::Events;
pub use forward_auth::ForwardAuth;
pub use host::Host;
pub use identifiers::Identifiers;
pub use jobs::Jobs;
pub use limits::Limits;
pub use load::{Loaded, Sources};
pub use log::{Log, LogFormat};
pub use ops::Ops;
pub use problem::{InvalidConfig, Origin, Problem};
pub use reader::Setting;
pub use records::Records;
pub use recovery::{OnCut, Recovery, Replication};
pub use resolvers::{Endpoint, Places, Registry, Resolvers, Universal, Web};
pub use sealing::{Sealing, SealingKeyBytes};
pub use server::{PublicUrl, Server, Tls};
pub use sessions::Sessions;
pub use signatures::Signatures;
pub use webhooks::{WebhookEndpoint, Webhooks};

use reader::Reader;

/// Everything that can be configured, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the service keeps its files: the SQLite database, the admin token, the sealing key.
    pub data_dir: PathBuf,
    pub server: Server,
    pub ops: Ops,
    pub database: Database,
    pub claims: Claims,
    pub sessions: Sessions,
    pub dids: Dids,
    pub events: Events,
    pub webhooks: Webhooks,
    pub records: Records,
    pub resolvers: Resolvers,
    pub signatures: Signatures,
    pub sealing: Sealing,
    pub auth: Auth,
    pub agents: Agents,
    pub limits: Limits,
    pub forward_auth: ForwardAuth,
    pub identifiers: Identifiers,
    pub jobs: Jobs,
    pub backup: Backup,
    pub recovery: Recovery,
    pub log: Log,
}

/// What a command needs of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Everything that serving needs, with the sealing key.
    Everything,
    /// A database. Session keys are not touched.
    Database,
}

impl Config {
    fn read(reader: &mut Reader, need: Need) -> Self {
        let data_dir = reader.path("data_dir", PathBuf::from("./data"));
        let server = Server::read(reader);
        let config = Self {
            ops: Ops::read(reader, &server),
            server,
            database: Database::read(reader, &data_dir),
            claims: Claims::read(reader),
            sessions: Sessions::read(reader),
            dids: Dids::read(reader),
            events: Events::read(reader),
            webhooks: Webhooks::read(reader),
            records: Records::read(reader),
            resolvers: Resolvers::read(reader),
            signatures: Signatures::read(reader),
            sealing: Sealing::read(reader),
            auth: Auth::read(reader),
            agents: Agents::read(reader),
            limits: Limits::read(reader),
            forward_auth: ForwardAuth::read(reader),
            identifiers: Identifiers::read(reader),
            jobs: Jobs::read(reader),
            backup: Backup::read(reader, &data_dir),
            recovery: Recovery::read(reader, &data_dir),
            log: Log::read(reader),
            data_dir,
        };
        if need == Need::Everything && config.database.is_postgres() {
            config.sealing.require_key(reader);
        }
        config
    }
}
