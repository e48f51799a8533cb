//! TLS to PostgreSQL: what every `sslmode` encrypts, whom it trusts, and whom it refuses. The
//! server itself is asked whether the store's connections are encrypted.

use std::sync::Arc;

use onceguard::clock::Clock;
use onceguard::config::DatabaseUrl;
use onceguard::metrics::Metrics;
use onceguard::storage::{ClaimLimits, DidChange, Store, StoreError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio_postgres::NoTls;

use crate::support::{PrivatePostgres, database_config};

/// Roles that the server of these tests lets in only with, or only without, TLS.
const ACCESS: &str = "
    hostssl   all encrypted 127.0.0.1/32 scram-sha-256
    hostnossl all plain     127.0.0.1/32 scram-sha-256
    host      all postgres  127.0.0.1/32 scram-sha-256
";

/// The host names here are made up; this makes them lead to the test's server on this machine.
const HERE: &str = "hostaddr=127.0.0.1";

/// The same server, by an address that is not a loopback one: for the store another machine.
const ELSEWHERE: &str = "hostaddr=0.0.0.0";

/// What becomes of opening a store.
#[derive(Debug, PartialEq)]
enum Opened {
    Plain,
    /// By this protocol.
    Encrypted(String),
    /// With this error.
    Refused(String),
}

/// A PostgreSQL, and the authorities that a client may trust.
struct Server {
    postgres: PrivatePostgres,
    files: TempDir,
}

/// How one store is opened.
struct Attempt<'a> {
    server: &'a Server,
    user: &'a str,
    password: String,
    host: &'a str,
    query: String,
    allow_plaintext: bool,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Server {
    /// One without TLS.
    fn plain() -> Self {
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("right.pem"), authority("right").pem()).unwrap();
        Self { postgres: PrivatePostgres::start(), files }
    }

    /// One with a certificate for `db.example` and 127.0.0.1 that `right.pem` vouches for.
    async fn with_tls() -> Self {
        let server = Self::plain();
        let (right, wrong) = (authority("right"), authority("wrong"));
        for (name, content) in
            [("right.pem", right.pem()), ("wrong.pem", wrong.pem()), ("no.pem", "no PEM".into())]
        {
            std::fs::write(server.file(name), content).unwrap();
        }
        let key = KeyPair::generate().unwrap();
        let names = ["db.example".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &right).unwrap();
        server.postgres.write_file("server.crt", &certificate.pem());
        server.postgres.write_file("server.key", &key.serialize_pem());
        server.postgres.write_file("pg_hba.conf", ACCESS);
        server.restart_with("");
        for user in ["encrypted", "plain"] {
            let password = server.password();
            let sql = format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'");
            server.admin().await.batch_execute(&sql).await.unwrap();
        }
        server
    }

    /// Starts it again with TLS and these settings.
    fn restart_with(&self, settings: &str) {
        self.postgres.restart_with(&format!(
            "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n{settings}"
        ));
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.files.path().join(name)
    }

    fn url(&self) -> url::Url {
        self.postgres.url().parse().unwrap()
    }

    fn password(&self) -> String {
        self.url().password().unwrap().to_owned()
    }

    /// A connection of the test's own, in the clear.
    async fn admin(&self) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(self.postgres.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// An attempt as the superuser. In the query, `RIGHT` and `WRONG` are authorities.
    fn at<'a>(&'a self, host: &'a str, query: &str) -> Attempt<'a> {
        let query = ["right", "wrong", "no", "missing"].into_iter().fold(
            query.to_owned(),
            |query, name| {
                let file = self.file(&format!("{name}.pem"));
                query.replace(&name.to_uppercase(), &format!("sslrootcert={}", file.display()))
            },
        );
        let password = self.password();
        Attempt { server: self, user: "postgres", password, host, query, allow_plaintext: false }
    }
}

impl Attempt<'_> {
    fn user(mut self, user: &'static str) -> Self {
        self.user = user;
        self
    }

    fn password(mut self, password: &str) -> Self {
        password.clone_into(&mut self.password);
        self
    }

    fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    async fn open(&self) -> Opened {
        let port = self.server.url().port().unwrap();
        let Self { user, password, host, query, .. } = self;
        let url = if host.is_empty() {
            format!("postgres://{user}:{password}@/postgres?port={port}&{query}")
        } else {
            format!("postgres://{user}:{password}@{host}:{port}/postgres?{query}")
        };
        let mut config = database_config(DatabaseUrl::parse(&url).unwrap());
        config.allow_plaintext = self.allow_plaintext;

        let admin = self.server.admin().await;
        let before: String =
            admin.query_one("SELECT clock_timestamp()::text", &[]).await.unwrap().get(0);
        let metrics = Arc::new(Metrics::new().unwrap());
        let limits = ClaimLimits { quota_per_signer: 1, quota_per_namespace: 1 };
        let store = match Store::open(&config, limits, metrics, Clock::system()).await {
            Ok(store) => store,
            Err(error) => {
                let shown = format!("{error} {error:?}");
                assert!(!shown.contains(password.as_str()), "{query}: {shown}");
                assert!(matches!(error, StoreError::Unavailable(_)), "{query}: {error:?}");
                return Opened::Refused(error.to_string());
            }
        };
        store.now().await.unwrap();
        let mut changes = store.watch_dids();
        assert_eq!(changes.next().await, Some(DidChange::Everything));
        let row = admin
            .query_one(
                "SELECT count(*), count(DISTINCT (ssl, version)), min(version)
                 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE application_name = 'onceguard' AND backend_start >= $1::text::timestamptz",
                &[&before],
            )
            .await
            .unwrap();
        let (connections, kinds, version): (i64, i64, Option<String>) =
            (row.get(0), row.get(1), row.get(2));
        // Those of both pools, and the one that listens.
        assert!(connections >= 4, "{query}: {connections}");
        assert_eq!(kinds, 1, "{query}: all are alike");
        store.close().await;
        version.map_or(Opened::Plain, Opened::Encrypted)
    }

    async fn is_plain(&self) {
        assert_eq!(self.open().await, Opened::Plain, "{}: {}", self.host, self.query);
    }

    async fn is_encrypted(&self) {
        self.is_encrypted_by("TLSv1.3").await;
    }

    async fn is_encrypted_by(&self, version: &str) {
        let expected = Opened::Encrypted(version.into());
        assert_eq!(self.open().await, expected, "{}: {}", self.host, self.query);
    }

    async fn is_refused(&self, cause: &str) {
        match self.open().await {
            Opened::Refused(error) if error.contains(cause) => {}
            other => panic!("{}: {}: {other:?}, not {cause:?}", self.host, self.query),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls() {
    let server = Server::with_tls().await;
    let near = |query: &str| server.at("127.0.0.1", query);
    let named = |query: &str| server.at("db.example", &format!("{query}&{HERE}"));
    let misnamed = |query: &str| server.at("other.example", &format!("{query}&{HERE}"));

    near("sslmode=disable").is_plain().await;
    near("").is_encrypted().await;
    near("sslmode=prefer").is_encrypted().await;
    near("sslmode=prefer&RIGHT").is_encrypted().await;
    near("sslmode=require").is_encrypted().await;
    misnamed("sslmode=require").is_encrypted().await;
    misnamed("sslmode=require&RIGHT").is_encrypted().await;
    near("sslmode=require&WRONG").is_refused("UnknownIssuer").await;
    // As in libpq: `prefer` would rather speak in the clear than not at all.
    near("sslmode=prefer&WRONG").is_plain().await;
    // An address alone, without a host's name.
    for mode in ["prefer", "require", "verify-full&RIGHT"] {
        server.at("", &format!("sslmode={mode}&{HERE}")).is_encrypted().await;
    }

    near("sslmode=verify-ca&RIGHT").is_encrypted().await;
    misnamed("sslmode=verify-ca&RIGHT").is_encrypted().await;
    near("sslmode=verify-ca&WRONG").is_refused("UnknownIssuer").await;

    near("sslmode=verify-full&RIGHT").is_encrypted().await;
    named("sslmode=verify-full&RIGHT").is_encrypted().await;
    misnamed("sslmode=verify-full&RIGHT").is_refused("not valid for name \"other.example\"").await;
    named("sslmode=verify-full&WRONG").is_refused("UnknownIssuer").await;

    // A file that cannot be used is not the same as none.
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        near(&format!("sslmode={mode}&MISSING")).is_refused("missing.pem").await;
        near(&format!("sslmode={mode}&NO")).is_refused("no.pem").await;
    }
    near("sslmode=require").password("hunter2").is_refused("password authentication failed").await;
}

/// The system's authorities do not vouch for the test's server; there may be none at all.
#[tokio::test(flavor = "multi_thread")]
async fn without_an_authority_of_its_own_it_is_the_system_s_that_are_trusted() {
    let server = Server::with_tls().await;
    for query in ["sslmode=verify-ca", "sslmode=verify-full", "sslrootcert=system"] {
        let opened = server.at("127.0.0.1", query).open().await;
        let Opened::Refused(error) = opened else { panic!("{query}: {opened:?}") };
        let causes = ["UnknownIssuer", "no authority to trust was found in the system"];
        assert!(causes.into_iter().any(|cause| error.contains(cause)), "{query}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lets_a_user_in_only_with_or_only_without_tls() {
    let server = Server::with_tls().await;
    let near = |query: &str| server.at("127.0.0.1", query);
    let far = |query: &str| server.at("db.example", &format!("{query}&{ELSEWHERE}"));

    near("sslmode=disable").user("encrypted").is_refused("no encryption").await;
    for mode in ["prefer", "require", "verify-full&RIGHT"] {
        near(&format!("sslmode={mode}")).user("encrypted").is_encrypted().await;
    }
    near("sslmode=disable").user("plain").is_plain().await;
    near("sslmode=prefer").user("plain").is_plain().await;
    near("sslmode=require").user("plain").is_refused("SSL encryption").await;
    far("sslmode=prefer").user("plain").is_refused("SSL encryption").await;
    far("sslmode=prefer").user("plain").allow_plaintext().is_plain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_another_machine_is_not_spoken_to_in_the_clear() {
    let server = Server::with_tls().await;
    let far = |query: &str| server.at("db.example", &format!("{query}&{ELSEWHERE}"));

    far("sslmode=disable").is_refused("database.allow_plaintext = true").await;
    far("sslmode=disable").allow_plaintext().is_plain().await;
    for query in ["", "sslmode=prefer", "sslmode=require", "sslmode=verify-full&RIGHT"] {
        far(query).is_encrypted().await;
    }
    far("sslmode=prefer").allow_plaintext().is_encrypted().await;
    // Whoever names an authority trusts no other, also where sslmode is left out.
    far("RIGHT").is_encrypted().await;
    far("WRONG").is_refused("UnknownIssuer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls() {
    let server = Server::plain();
    let near = |query: &str| server.at("127.0.0.1", query);
    let far = |query: &str| server.at("db.example", &format!("{query}&{ELSEWHERE}"));

    near("sslmode=disable").is_plain().await;
    near("").is_plain().await;
    near("sslmode=prefer").is_plain().await;
    for query in ["sslmode=require", "sslmode=verify-ca&RIGHT", "sslmode=verify-full&RIGHT"] {
        near(query).is_refused("server does not support TLS").await;
        far(query).allow_plaintext().is_refused("server does not support TLS").await;
    }
    far("sslmode=disable").is_refused("database.allow_plaintext = true").await;
    far("sslmode=disable").allow_plaintext().is_plain().await;
    for query in ["", "sslmode=prefer"] {
        far(query).is_refused("server does not support TLS").await;
        far(query).allow_plaintext().is_plain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_protocol_is_spoken_that_is_older_than_tls_1_2() {
    let server = Server::with_tls().await;
    let near = |query: &str| server.at("127.0.0.1", query);
    let far = |query: &str| server.at("db.example", &format!("{query}&{ELSEWHERE}"));

    server.restart_with("ssl_max_protocol_version = 'TLSv1.2'");
    for query in ["sslmode=prefer", "sslmode=require", "sslmode=verify-full&RIGHT"] {
        near(query).is_encrypted_by("TLSv1.2").await;
    }
    server.restart_with(
        "ssl_min_protocol_version = 'TLSv1'
         ssl_max_protocol_version = 'TLSv1.1'
         ssl_ciphers = 'ALL:@SECLEVEL=0'",
    );
    for query in ["sslmode=require", "sslmode=verify-ca&RIGHT", "sslmode=verify-full&RIGHT"] {
        near(query).is_refused("ProtocolVersion").await;
    }
    far("sslmode=prefer").is_refused("ProtocolVersion").await;
    near("sslmode=prefer").is_plain().await;
}
