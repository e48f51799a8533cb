//! `GET /v1/stats`: what an operator wants to see at a glance.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::Call;
use super::problem::Problem;
use super::time::Time;
use super::values::json;
use super::words;

/// How many of the busiest clients, and of the kinds of records, are named.
const TOP: u32 = 10;

/// The service and its database.
#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct View<'a> {
    #[schema(example = "0.1.0")]
    version: &'static str,
    #[schema(value_type = words::Backend)]
    backend: &'static str,
    started_at: Time,
    uptime_seconds: i64,
    sessions: SessionsView,
    /// Held now, of sessions and signers; an estimate on a large PostgreSQL.
    live_nonces: u64,
    dids: DidsView,
    records: RecordsView<'a>,
    webhooks: WebhooksView,
    database: DatabaseView<'a>,
    /// When the last backup was finished; null if none was.
    #[schema(required = true)]
    last_backup_at: Option<Time>,
    /// The clients with the most active sessions, most first.
    top_clients: Vec<ClientView<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatsSessions)]
pub(super) struct SessionsView {
    active: u64,
    /// Over, and not yet purged.
    ended: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatsDids)]
pub(super) struct DidsView {
    stored: u64,
    revoked: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatsRecords)]
pub(super) struct RecordsView<'a> {
    /// DIDs that have records.
    owners: u64,
    /// Tombstones included.
    records: u64,
    /// Of the ciphertexts.
    bytes: u64,
    agents: AgentsView,
    /// The kinds with the most records, tombstones not included, most first.
    top_kinds: Vec<KindView<'a>>,
}

/// What counts in the quota of all agents together.
#[derive(Serialize, ToSchema)]
#[schema(as = StatsAgents)]
pub(super) struct AgentsView {
    records: u64,
    bytes: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatsKind)]
pub(super) struct KindView<'a> {
    #[schema(example = "sync")]
    kind: &'a str,
    records: u64,
}

/// Webhooks by state, and events that are sent to them.
#[derive(Serialize, ToSchema)]
#[schema(as = StatsWebhooks)]
pub(super) struct WebhooksView {
    active: u64,
    paused: u64,
    disabled: u64,
    /// Events that are sent, or sent again.
    pending: u64,
    /// Events that were given up.
    dead: u64,
    /// For how long the oldest pending event has waited; 0 if there is none.
    oldest_pending_seconds: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatsDatabase)]
pub(super) struct DatabaseView<'a> {
    bytes: u64,
    /// When the database was last recovered, by `onceguard recover` or by an instance; null if it
    /// never was.
    #[schema(required = true)]
    recovered_at: Option<Time>,
    tables: Vec<TableView<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatsTable)]
pub(super) struct TableView<'a> {
    #[schema(example = "sessions")]
    name: &'a str,
    /// Table and indexes.
    bytes: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatsClient)]
pub(super) struct ClientView<'a> {
    #[schema(example = "did:web:client.example")]
    client_did: &'a str,
    active_sessions: u64,
}

/// Counts, sizes, the busiest clients.
#[utoipa::path(
    get, path = "/v1/stats", tag = "operations",
    responses((status = 200, description = "The service and its database.", body = View)),
)]
pub(super) async fn stats(call: Call) -> Result<HttpResponse, Problem> {
    call.input().finish(|| Some(()))?;
    let state = &call.state;
    let found = state.statistics.read(TOP).await?;
    let last_backup = state.statistics.last_backup().await?;
    let (webhooks, deliveries) = state.statistics.webhooks().await?;
    let counts = found.counts;
    let view = View {
        version: env!("CARGO_PKG_VERSION"),
        backend: state.statistics.backend(),
        started_at: Time(state.started_at),
        uptime_seconds: (state.clock.now() - state.started_at).num_seconds().max(0),
        sessions: SessionsView { active: counts.active_sessions, ended: counts.ended_sessions },
        live_nonces: counts.live_nonces,
        dids: DidsView { stored: counts.dids, revoked: counts.revoked_dids },
        records: RecordsView {
            owners: counts.records.owners,
            records: counts.records.records,
            bytes: counts.records.bytes,
            agents: AgentsView {
                records: counts.records.agents_records,
                bytes: counts.records.agents_bytes,
            },
            top_kinds: found
                .top_kinds
                .iter()
                .map(|(kind, count)| KindView { kind: kind.as_str(), records: *count })
                .collect(),
        },
        webhooks: WebhooksView {
            active: webhooks.active,
            paused: webhooks.paused,
            disabled: webhooks.disabled,
            pending: deliveries.pending,
            dead: deliveries.dead,
            oldest_pending_seconds: webhooks.oldest_pending.as_secs(),
        },
        database: DatabaseView {
            bytes: found.database_bytes,
            recovered_at: state.readiness.recovered_at().map(Time),
            tables: found
                .tables
                .iter()
                .map(|table| TableView { name: &table.name, bytes: table.bytes })
                .collect(),
        },
        last_backup_at: last_backup.map(Time),
        top_clients: found
            .top_clients
            .iter()
            .map(|(did, count)| ClientView { client_did: did.as_str(), active_sessions: *count })
            .collect(),
    };
    json(StatusCode::OK, &view)
}
