//! Metrics of webhooks.

use prometheus::{IntCounter, IntGauge, Registry};

use super::register::{counters, gauge, gauges};

/// The gauges are sampled.
#[derive(Debug, Clone)]
pub struct WebhookMetrics {
    /// Attempts that the receiver took.
    pub delivered: IntCounter,
    /// Attempts that are made again.
    pub failed: IntCounter,
    /// Events that were given up.
    pub dead: IntCounter,
    pub oldest_pending_seconds: IntGauge,
    pub active: IntGauge,
    pub paused: IntGauge,
    pub paused_by_recovery: IntGauge,
    pub disabled: IntGauge,
}

impl WebhookMetrics {
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        let attempts = counters(
            r,
            "webhook_attempts_total",
            "Attempts to send an event to a webhook, by result.",
            &["result"],
        )?;
        let webhooks = gauges(r, "webhooks", "Webhooks, by state, when last sampled.", &["state"])?;
        Ok(Self {
            delivered: attempts.with_label_values(&["delivered"]),
            failed: attempts.with_label_values(&["failed"]),
            dead: attempts.with_label_values(&["dead"]),
            oldest_pending_seconds: gauge(
                r,
                "webhook_oldest_pending_seconds",
                "For how long the oldest event has waited that a webhook was not sent, when last sampled.",
            )?,
            active: webhooks.with_label_values(&["active"]),
            paused_by_recovery: gauge(
                r,
                "webhooks_paused_by_recovery",
                "Webhooks that are paused since the database was recovered, when last sampled.",
            )?,
            paused: webhooks.with_label_values(&["paused"]),
            disabled: webhooks.with_label_values(&["disabled"]),
        })
    }
}
