//! Every metric of the service, in base units, without ids in labels.
//!
//! Series that the hot path touches are resolved once here, so that counting costs one atomic
//! addition and no look-up.

mod events;
mod log_lines;
mod records;
mod register;
mod webhooks;

use std::time::Duration;

use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

use crate::domain::{EndReason, Outcome};

pub use events::{EventMetrics, UnrecordedReplays};
pub use log_lines::LogLinesDropped;
pub use records::RecordMetrics;
use register::{counter, counters, gauge, gauges, histogram, histograms};
pub use webhooks::WebhookMetrics;

/// Seconds, from a fast cache hit to a slow request.
const SECONDS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];
/// Claims in one commit.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The registry and its metrics.
pub struct Metrics {
    registry: Registry,
    pub http_requests: IntCounterVec,
    pub http_request_seconds: HistogramVec,
    pub http_in_flight: IntGauge,
    pub in_use: IntGaugeVec,
    refused: IntCounterVec,
    pub http_connections_broken: IntCounter,
    verdicts: IntCounterVec,
    pub forward_auth_refused: IntCounter,
    claims: Vec<(&'static str, IntCounter)>,
    pub claims_refused_overloaded: IntCounter,
    pub claims_outcome_unknown: IntCounter,
    pub claim_queue_depth: IntGauge,
    pub claim_batch_size: Histogram,
    pub claim_commit_seconds: Histogram,
    pub session_queue_depth: IntGaugeVec,
    pub sessions_opened: IntCounter,
    sessions_ended: IntCounterVec,
    pub sessions_active: IntGauge,
    pub nonces_live: IntGauge,
    pub records: RecordMetrics,
    pub did_cache_hits: IntCounter,
    pub did_cache_misses: IntCounter,
    pub did_cache_loads: IntCounterVec,
    pub resolutions: IntCounterVec,
    pub resolution_seconds: HistogramVec,
    pub resolver_places: IntGaugeVec,
    pub resolver_refusals: IntCounterVec,
    pub revocation_seconds: HistogramVec,
    pub journal_failures: IntCounter,
    pub did_changes_seen: IntGauge,
    pub pool_connections: IntGaugeVec,
    pub pool_acquired: IntCounter,
    pub pool_acquire_failures: IntCounter,
    pub pool_wait_seconds: Histogram,
    pub connect_failures: IntCounter,
    pub statements: IntCounterVec,
    pub statement_seconds: Histogram,
    pub slow_statements: IntCounter,
    pub job_runs: IntCounterVec,
    pub job_seconds: HistogramVec,
    pub purged: IntCounterVec,
    pub purge_lag_seconds: IntGauge,
    pub last_backup: IntGauge,
    pub recovered_at: IntGauge,
    pub cuts: IntCounter,
    pub went_back: IntGauge,
    pub certificate_expiry: IntGauge,
    pub clock_jump_seconds: IntGauge,
    pub clock_jumps: IntCounter,
    pub events: EventMetrics,
    pub webhooks: WebhookMetrics,
    pub log_lines_dropped: LogLinesDropped,
}

impl Metrics {
    /// # Errors
    /// Only if two metrics had the same name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("onceguard".into()), None)?;
        let r = &registry;
        let claims_by_outcome = counters(r, "claims_total", "Claims decided.", &["outcome"])?;
        let claims = Outcome::WORDS
            .iter()
            .map(|word| (*word, claims_by_outcome.with_label_values(&[*word])))
            .collect();
        let sessions_ended =
            counters(r, "sessions_ended_total", "Sessions ended, by reason.", &["reason"])?;
        for reason in EndReason::ALL {
            let _ = sessions_ended.with_label_values(&[reason.as_str()]);
        }
        let build = gauges(r, "build_info", "1, with the version of this binary.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            http_requests: counters(
                r,
                "http_requests_total",
                "HTTP requests answered, by route and status.",
                &["method", "route", "status"],
            )?,
            http_request_seconds: histograms(
                r,
                "http_request_duration_seconds",
                "Time from a request's head to its answer, by route.",
                &["method", "route"],
                SECONDS,
            )?,
            http_in_flight: gauge(r, "http_requests_in_flight", "HTTP requests being served.")?,
            in_use: gauges(
                r,
                "limit_in_use",
                "What is in use of a resource that is bounded, in its unit.",
                &["resource"],
            )?,
            refused: counters(
                r,
                "refused_total",
                "What was refused because a bound was reached, by resource and by which bound.",
                &["resource", "reason"],
            )?,
            http_connections_broken: counter(
                r,
                "http_connections_broken_total",
                "Connections closed because they broke, or because no HTTP request came over them.",
            )?,
            verdicts: counters(
                r,
                "verdicts_total",
                "Signed requests judged, by the code of the first check that failed, or accepted.",
                &["code", "profile"],
            )?,
            forward_auth_refused: counter(
                r,
                "forward_auth_refused_total",
                "Requests for a verdict that were refused for the proxy's own token.",
            )?,
            claims,
            claims_refused_overloaded: counter(
                r,
                "claims_overloaded_total",
                "Calls whose claims were refused because the queue was full.",
            )?,
            claims_outcome_unknown: counter(
                r,
                "claims_outcome_unknown_total",
                "Claims whose connection was lost before the database's answer.",
            )?,
            claim_queue_depth: gauge(r, "claim_queue_depth", "Claims waiting for the database.")?,
            claim_batch_size: histogram(r, "claim_batch_size", "Claims in one commit.", BATCH)?,
            claim_commit_seconds: histogram(
                r,
                "claim_commit_duration_seconds",
                "Time from sending a batch of claims to its commit.",
                SECONDS,
            )?,
            session_queue_depth: gauges(r, "session_queue_depth", "Calls in a queue.", &["kind"])?,
            sessions_opened: counter(r, "sessions_opened_total", "Sessions opened.")?,
            sessions_ended,
            sessions_active: gauge(r, "sessions_active", "Sessions not over, when last sampled.")?,
            nonces_live: gauge(r, "nonces_live", "Nonces held, when last sampled.")?,
            records: RecordMetrics::new(r)?,
            did_cache_hits: counter(r, "did_cache_hits_total", "DIDs found in the cache.")?,
            did_cache_misses: counter(r, "did_cache_misses_total", "DIDs not in the cache.")?,
            did_cache_loads: counters(
                r,
                "did_cache_loads_total",
                "DIDs read to fill the cache, by result.",
                &["result"],
            )?,
            resolutions: counters(
                r,
                "did_resolutions_total",
                "DIDs read from where they live, by resolver and result.",
                &["resolver", "result"],
            )?,
            resolution_seconds: histograms(
                r,
                "did_resolution_duration_seconds",
                "Time of reading a DID from where it lives, by resolver.",
                &["resolver"],
                SECONDS,
            )?,
            resolver_places: gauges(
                r,
                "resolver_places_in_use",
                "DIDs being read from where they live, by resolver, and by whether they are known here or new.",
                &["resolver", "dids"],
            )?,
            resolver_refusals: counters(
                r,
                "resolver_refusals_total",
                "DIDs that were not read because a part of the places was full, by resolver and part.",
                &["resolver", "reason"],
            )?,
            revocation_seconds: histograms(
                r,
                "did_revocation_duration_seconds",
                "Time from a revocation to its refusal by this instance, by the instance that revoked.",
                &["origin"],
                SECONDS,
            )?,
            journal_failures: counter(
                r,
                "revocation_journal_failures_total",
                "Revocations and replaced keys that could not be written to the journal of the data folder.",
            )?,
            did_changes_seen: gauge(
                r,
                "did_changes_seen",
                "1 while changes of DIDs by other instances are heard; at 0 the cache is not trusted.",
            )?,
            pool_connections: gauges(
                r,
                "database_connections",
                "Connections of the general pool, by state.",
                &["state"],
            )?,
            pool_acquired: counter(
                r,
                "database_connections_acquired_total",
                "Connections taken from the pool.",
            )?,
            pool_acquire_failures: counter(
                r,
                "database_acquire_failures_total",
                "Times that no connection could be had in time.",
            )?,
            pool_wait_seconds: histogram(
                r,
                "database_acquire_duration_seconds",
                "Time spent waiting for a connection.",
                SECONDS,
            )?,
            connect_failures: counter(
                r,
                "database_connect_failures_total",
                "Connections that could not be opened.",
            )?,
            statements: counters(
                r,
                "database_operations_total",
                "Database operations, by result.",
                &["result"],
            )?,
            statement_seconds: histogram(
                r,
                "database_operation_duration_seconds",
                "Time of one database operation.",
                SECONDS,
            )?,
            slow_statements: counter(
                r,
                "database_slow_operations_total",
                "Database operations slower than database.slow_statement_milliseconds.",
            )?,
            job_runs: counters(
                r,
                "job_runs_total",
                "Runs of a job, by result.",
                &["job", "result"],
            )?,
            job_seconds: histograms(
                r,
                "job_duration_seconds",
                "Time of one run of a job.",
                &["job"],
                SECONDS,
            )?,
            purged: counters(r, "purged_rows_total", "Rows the purge removed.", &["kind"])?,
            purge_lag_seconds: gauge(
                r,
                "purge_lag_seconds",
                "Time since a purge last finished, when last sampled.",
            )?,
            last_backup: gauge(
                r,
                "last_backup_timestamp_seconds",
                "When the last backup was finished; 0 if none was.",
            )?,
            recovered_at: gauge(
                r,
                "database_recovery_timestamp_seconds",
                "When the database was last recovered, in seconds since 1970; 0 if it never was.",
            )?,
            cuts: counter(
                r,
                "database_cuts_total",
                "Times that this instance found that the database had lost commits, and recovered it.",
            )?,
            went_back: gauge(
                r,
                "database_went_back",
                "1 while the database is not served, because it lacks what it had acknowledged.",
            )?,
            certificate_expiry: gauge(
                r,
                "tls_certificate_expiry_timestamp_seconds",
                "When the API's certificate expires, in seconds since 1970; 0 without one.",
            )?,
            clock_jump_seconds: gauge(
                r,
                "clock_jump_seconds",
                "By how much the machine's clock jumped, while that is not believed; nothing is purged.",
            )?,
            clock_jumps: counter(r, "clock_jumps_total", "Jumps of the machine's clock.")?,
            events: EventMetrics::new(r)?,
            webhooks: WebhookMetrics::new(r)?,
            log_lines_dropped: LogLinesDropped::new(r)?,
            registry,
        };
        Ok(metrics)
    }

    /// Counts a decided claim.
    pub fn claim_decided(&self, outcome: &Outcome) {
        let word = outcome.as_str();
        if let Some((_, counter)) = self.claims.iter().find(|(name, _)| *name == word) {
            counter.inc();
        }
    }

    /// Counts a verdict.
    pub fn verdict(&self, code: &str, profile: &str) {
        self.verdicts.with_label_values(&[code, profile]).inc();
    }

    /// Counts what was refused because a bound was reached.
    pub fn refused(&self, resource: &str, reason: &str) {
        self.refused.with_label_values(&[resource, reason]).inc();
    }

    /// Counts sessions that ended.
    pub fn sessions_ended(&self, reason: EndReason, count: u64) {
        self.sessions_ended.with_label_values(&[reason.as_str()]).inc_by(count);
    }

    /// Counts one database operation.
    pub fn operation(&self, took: Duration, ok: bool) {
        self.statement_seconds.observe(took.as_secs_f64());
        self.statements.with_label_values(&[if ok { "ok" } else { "error" }]).inc();
    }

    /// The exposition in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        families.extend(prometheus::gather());
        TextEncoder::new().encode_to_string(&families)
    }
}
