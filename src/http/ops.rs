//! The operations listener: `/metrics`, `/livez`, `/readyz`. No credential: it is not meant to be
//! reachable from outside.

use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::State;
use super::path::{Path, register};
use super::problem::Problem;
use super::time::Time;
use super::values::json;
use crate::clock::TOLERANCE;
use crate::services::Ability;

/// Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Above this utilisation of the pool the service is degraded.
const BUSY_POOL: f64 = 0.85;
/// The purge lags when it has not finished for this many of its intervals.
const LATE_INTERVALS: u32 = 3;

/// Registers the operations routes.
pub fn routes(config: &mut ServiceConfig) {
    let table = vec![
        Path::new("/metrics").public(metrics),
        Path::new("/livez").public(live),
        Path::new("/readyz").public(ready),
    ];
    register(config, table);
}

async fn metrics(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let text = state(&request)?
        .metrics
        .render()
        .map_err(|error| Problem::internal(format!("the metrics cannot be written: {error}")))?;
    Ok(HttpResponse::Ok().content_type(TEXT_FORMAT).body(text))
}

/// The process serves; nothing else is looked at.
async fn live(_: HttpRequest) -> Result<HttpResponse, Problem> {
    json(StatusCode::OK, &serde_json::json!({ "status": "alive" }))
}

/// What `/readyz` tells. Machines read the status code: 200, or 503 when `unhealthy`.
#[derive(Serialize)]
struct Readiness {
    /// `healthy`, `degraded` (it serves, but somebody should look) or `unhealthy`.
    status: &'static str,
    /// Why it is not healthy.
    reasons: Vec<&'static str>,
    version: &'static str,
    draining: bool,
    database: DatabaseView,
    pool: PoolView,
    purge: PurgeView,
    clock: ClockView,
}

#[derive(Serialize)]
struct DatabaseView {
    backend: &'static str,
    /// Whether it answered.
    reachable: bool,
    /// Whether it took a write, within the last second.
    writable: bool,
    milliseconds: f64,
    /// Migrations this binary has and the database has not; null when that is not known.
    pending_migrations: Option<usize>,
    /// When it was last recovered; null if it never was.
    recovered_at: Option<Time>,
}

#[derive(Serialize)]
struct PoolView {
    max: u32,
    open: u32,
    in_use: u32,
    utilisation: f64,
}

#[derive(Serialize)]
struct PurgeView {
    /// Since a purge last finished; null when none has.
    lag_seconds: Option<i64>,
}

#[derive(Serialize)]
struct ClockView {
    /// By how much the machine's clock jumped, while that is not believed; else null.
    jump_seconds: Option<i64>,
    /// By how much the database's clock is ahead of the machine's; null when that is not known.
    database_ahead_seconds: Option<i64>,
}

async fn ready(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let state = state(&request)?;
    let ability = state.readiness.ability().await;
    let (status, view) = judge(state, &ability);
    json(status, &view)
}

fn judge(state: &State, ability: &Ability) -> (StatusCode, Readiness) {
    let answer = ability.answer.as_ref();
    let draining = state.draining.load(Ordering::Relaxed);
    let pool = ability.pool;
    let utilisation =
        if pool.max == 0 { 0.0 } else { f64::from(pool.in_use) / f64::from(pool.max) };
    let lag = answer.and_then(|answer| answer.purge_lag_seconds);
    // A purge that has never finished is late when it could have by now.
    let waited = lag.unwrap_or_else(|| (state.clock.now() - state.started_at).num_seconds());
    let late = (state.config.jobs.purge_interval * LATE_INTERVALS).as_secs();

    let mut unhealthy = Vec::new();
    if draining {
        unhealthy.push("the service is stopping");
    }
    match answer {
        None => unhealthy.push(pool.refusal.unwrap_or("the database does not answer")),
        Some(answer) if answer.pending_migrations > 0 => {
            unhealthy.push("migrations are pending: run `onceguard migrate up`");
        }
        Some(answer) if answer.is_moved => unhealthy.push(
            "the database takes no changes, because `onceguard transfer` moves or moved it: \
             `onceguard doctor` says where to",
        ),
        Some(_) if !ability.writes => unhealthy.push(pool.refusal.unwrap_or(
            "the database answers, but takes no writes: is its disk full, or a synchronous \
             standby away?",
        )),
        Some(_) => {}
    }
    let mut degraded = Vec::new();
    if utilisation > BUSY_POOL {
        degraded.push("the connection pool is nearly used up");
    }
    if answer.is_some() && u64::try_from(waited).is_ok_and(|waited| waited > late) {
        degraded.push("the purge has not finished for a long time");
    }
    let jump = state.clock.jump();
    let apart = answer.is_some_and(|answer| answer.ahead.abs() > TOLERANCE);
    if jump.is_some() {
        degraded.push(
            "the machine's clock jumped: nothing is purged until it is right again, or has stood \
             for 10 minutes",
        );
    } else if apart {
        degraded.push(
            "the clocks of the database and of this machine differ: nothing is purged until NTP \
             has set both",
        );
    }
    let (code, status) = match (unhealthy.is_empty(), degraded.is_empty()) {
        (true, true) => (StatusCode::OK, "healthy"),
        (true, false) => (StatusCode::OK, "degraded"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
    };
    let view = Readiness {
        status,
        reasons: unhealthy.into_iter().chain(degraded).collect(),
        version: env!("CARGO_PKG_VERSION"),
        draining,
        database: DatabaseView {
            backend: ability.backend,
            reachable: answer.is_some(),
            writable: ability.writes && !answer.is_some_and(|answer| answer.is_moved),
            milliseconds: ability.took.as_secs_f64() * 1000.0,
            pending_migrations: answer.map(|answer| answer.pending_migrations),
            recovered_at: state.readiness.recovered_at().map(Time),
        },
        pool: PoolView { max: pool.max, open: pool.open, in_use: pool.in_use, utilisation },
        purge: PurgeView { lag_seconds: lag },
        clock: ClockView {
            jump_seconds: jump.map(|by| by.num_seconds()),
            database_ahead_seconds: answer.map(|answer| answer.ahead.num_seconds()),
        },
    };
    (code, view)
}

fn state(request: &HttpRequest) -> Result<&State, Problem> {
    request
        .app_data::<web::Data<State>>()
        .map(web::Data::get_ref)
        .ok_or_else(|| Problem::internal("the state is not part of the app"))
}
