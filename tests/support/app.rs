//! The whole service, in this process, on a database of its own.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onceguard::app::{Application, StartError};
use onceguard::clock::Clock;
use onceguard::config::{Config, Need, SealingKeyBytes, Sources};
use onceguard::domain::{Actor, ApiToken, TokenScope, TokenScopes};
use onceguard::metrics::Metrics;
use onceguard::services::Tokens;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::builders::a_binding;
use super::client::{Answer, Caller, http_client};
use super::{Database, TestStore, database_config, days, wait_for};

/// A running service. It derefs to a caller with the admin token, and stops in order when dropped.
pub struct TestApp {
    admin: Caller,
    ops: Caller,
    application: Option<Application>,
    config: Config,
    store: TestStore,
    folder: TempDir,
}

impl TestApp {
    pub async fn start(on: Database) -> Self {
        Self::start_with(on, |_| {}).await
    }

    /// Starts with a changed configuration.
    pub async fn start_with(on: Database, change: impl FnOnce(&mut Config)) -> Self {
        assert_ne!(
            on,
            Database::Memory,
            "only the running service can reach a database in its memory"
        );
        let store = on.store().await;
        // Only the test's own calls change the database.
        for job in ["purge", "revocations"] {
            assert!(store.take_lease(job, "the test", days(36_500)).await.unwrap());
        }
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        config.database = database_config(store.url().clone());
        // `/readyz` judges how much of the pool is in use: more than all jobs need at once.
        config.database.pool.max = 16;
        config.database.sqlite_readers = 16;
        change(&mut config);
        let application = start_application(config.clone(), store.clock()).await.unwrap();
        let (admin, ops) = callers(&application, &config);
        hears_of_changes(&ops).await;
        Self { admin, ops, application: Some(application), config, store, folder }
    }

    /// Stops it, and starts it again on the same data.
    pub async fn restart(&mut self) {
        self.restart_with(|_| {}).await;
    }

    pub async fn restart_with(&mut self, change: impl FnOnce(&mut Config)) {
        if self.application.is_some() {
            self.stop().await;
        }
        change(&mut self.config);
        let application = start_application(self.config.clone(), self.store.clock());
        let application = application.await.unwrap();
        (self.admin, self.ops) = callers(&application, &self.config);
        hears_of_changes(&self.ops).await;
        self.application = Some(application);
    }

    /// Stops it in order; the database stays.
    pub async fn stop(&mut self) {
        self.take_application().stop().await;
    }

    /// The application itself, for a test that stops it in its own way.
    pub fn take_application(&mut self) -> Application {
        self.application.take().expect("the service is running")
    }

    pub fn application(&self) -> &Application {
        self.application.as_ref().expect("the service is running")
    }

    /// Calls on the operations listener.
    pub fn ops(&self) -> &Caller {
        &self.ops
    }

    pub fn admin(&self) -> &Caller {
        &self.admin
    }

    /// Calls without a credential.
    pub fn anybody(&self) -> Caller {
        self.admin.with_token(None)
    }

    /// Calls with a new token of these scopes.
    pub async fn caller(&self, scopes: &[TokenScope]) -> Caller {
        self.admin.with_token(Some(&self.token(scopes, None).await.1))
    }

    /// A new token, and its text.
    pub async fn token(
        &self,
        scopes: &[TokenScope],
        ttl_seconds: Option<u32>,
    ) -> (ApiToken, String) {
        let scopes = TokenScopes::new(scopes.to_vec());
        let tokens = self.tokens();
        let created = tokens.create("of a test", scopes, None, ttl_seconds, Actor::Operator);
        let (token, text) = created.await.unwrap();
        (token, text.expose().to_owned())
    }

    /// Calls the API with a new token that is bound to a namespace.
    pub async fn bound_caller(&self, namespace: &str, max_ttl_seconds: u32) -> Caller {
        let scopes = TokenScopes::new(vec![TokenScope::Nonces]);
        let binding = Some(a_binding(namespace, max_ttl_seconds));
        let tokens = self.tokens();
        let created = tokens.create("bound", scopes, binding, None, Actor::Operator);
        let (_, text) = created.await.unwrap();
        self.admin.with_token(Some(text.expose()))
    }

    /// Tokens as a command in another process sees them.
    pub fn tokens(&self) -> Tokens {
        Tokens::new((*self.store).clone(), self.store.clock().clone())
    }

    /// The database behind the service.
    pub fn store(&self) -> &TestStore {
        &self.store
    }

    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn api_address(&self) -> SocketAddr {
        self.application().api_address
    }

    /// Everything in the database that callers can change.
    pub async fn data(&self) -> String {
        self.store.raw().data().await
    }

    /// Makes a call that must be refused with this status and code, and must change nothing.
    pub async fn refuses(
        &self,
        request: super::client::Request,
        status: u16,
        code: &str,
    ) -> Answer {
        let before = self.data().await;
        let answer = request.send().await.refused(status, code);
        let after = self.data().await;
        assert_eq!(before, after, "a refused call changed the database: {answer:?}");
        answer
    }

    /// The sum of a metric's series whose labels contain all of these texts.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.ops.metric(name, labels).await
    }

    /// The types of events, newest first and without `onceguard.`, except the creation of tokens and
    /// replays.
    pub async fn audited(&self) -> Vec<String> {
        let events = self.store.newest_events(500).await.unwrap();
        let own = |kind: &str| kind.strip_prefix("onceguard.").map(str::to_owned);
        let kinds = events.iter().filter_map(|event| own(&event.kind));
        // Replays are no acts, and come when they come.
        let acts = kinds.filter(|kind| kind != "token.created" && !kind.ends_with(".replayed"));
        acts.collect()
    }
}

/// Until it hears of changes of DIDs by others, the service trusts nothing that it cached, and reads
/// a DID again for each caller.
async fn hears_of_changes(ops: &Caller) {
    wait_for("changes of DIDs to be heard", async || {
        (ops.metric("onceguard_did_changes_seen", &[]).await > 0.0).then_some(())
    })
    .await;
}

impl Deref for TestApp {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.admin
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let Some(application) = self.application.take() else { return };
        if std::thread::panicking() {
            return;
        }
        // The service would wait for idle connections of the client.
        let nobody = http_client().build().unwrap();
        self.admin = Caller::new(nobody, String::new(), None);
        self.ops = self.admin.clone();
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(application.stop());
        });
    }
}

/// Starts the service with metrics of its own.
///
/// # Errors
/// When it does not start.
pub async fn start_application(config: Config, clock: &Clock) -> Result<Application, StartError> {
    let metrics = Arc::new(Metrics::new().unwrap());
    Application::start(config, clock.clone(), metrics).await
}

/// The defaults, on free ports, with sealing keys of the test's own.
fn config(folder: &Path) -> Config {
    let folder = folder.to_str().unwrap().to_owned();
    let sources = Sources::default().flag("--data-dir", "data_dir", Some(folder));
    let mut config = sources.load(Need::Database).unwrap().config;
    config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.ops.listen = config.server.listen;
    config.server.workers = 2;
    config.server.shutdown_timeout = Duration::from_secs(5);
    // Nothing leaves the machine: a test that resolves DIDs configures a resolver.
    config.resolvers.web.enabled = false;
    config.sealing.key = Some(SealingKeyBytes(Zeroizing::new([7; 32])));
    config
}

fn callers(application: &Application, config: &Config) -> (Caller, Caller) {
    let token = std::fs::read_to_string(config.data_dir.join("admin.token")).ok();
    let token = token.as_deref().map(str::trim);
    let http = http_client().build().unwrap();
    let base = format!("http://{}", application.api_address);
    let ops = format!("http://{}", application.ops_address);
    (Caller::new(http.clone(), base, token), Caller::new(http, ops, None))
}
