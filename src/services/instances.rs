//! The processes that serve, for operators.

use serde_json::{Map, json};

use super::{ServiceError, event};
use crate::config::{Origin, Setting};
use crate::domain::{Actor, Instance, OwnType, Page, PageRequest};
use crate::storage::Store;

/// Lists instances. Clones share the store.
#[derive(Clone)]
pub struct Instances {
    store: Store,
}

impl Instances {
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes into the log that the instance of this name started, and what is configured otherwise than
    /// by default. Secrets are masked in `settings`.
    pub async fn record_start(&self, name: &str, settings: &[Setting]) -> Result<(), ServiceError> {
        let configured = settings.iter().filter(|setting| setting.origin != Origin::Default);
        let configured = configured.map(|setting| (setting.key.clone(), setting.value.clone()));
        let data = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "settings": configured.collect::<Map<_, _>>(),
        });
        let started = event(OwnType::InstanceStarted, Actor::Service, name, &data);
        self.store.publish(vec![started]).await?;
        Ok(())
    }

    /// Those of the last week, the latest start first.
    pub async fn list(&self, page: &PageRequest) -> Result<Page<Instance>, ServiceError> {
        Ok(self.store.instances(page).await?)
    }
}
