//! `onceguard serve`: the start-up contract.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;

use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::assert_failed;
use crate::doctor::with_certificate;
use crate::support::{Database, Home, PostgresDatabase, Process, wait_for};

#[tokio::test]
async fn a_first_start_prints_a_line_that_works_when_pasted() {
    let home = Home::on(Database::Sqlite).await;
    let serving = home.start().await;
    let line = crate::support::wait_for("the line to paste", async || {
        let output = serving.output();
        output.lines().find_map(|line| line.strip_prefix("  curl ").map(|_| line.to_owned()))
    })
    .await;
    let token = home.token();
    assert!(line.contains("$(cat ") && !line.contains(&token), "{line}");
    let pasted =
        Command::new("sh").args(["-c", &format!("{line} --fail --silent")]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&pasted.stdout).unwrap();
    assert_eq!(answer["sessions"]["active"], 0);

    let finished = serving.stop().await;
    assert!(finished.stdout.contains("admin token created in "), "{finished:?}");
    assert!(!finished.stdout.contains(&token) && !finished.stderr.contains(&token));
    finished.success();

    let second = home.start().await.stop().await.success();
    assert!(!second.contains("created"), "{second}");
    assert_eq!(home.token(), token);
}

#[tokio::test]
async fn serving_is_what_it_does_without_a_command() {
    let home = Home::on(Database::Sqlite).await;
    home.start_as(home.command(&[])).await.stop().await.success();
}

#[tokio::test]
async fn secrets_are_for_their_owner_alone() {
    let home = Home::on(Database::Sqlite).await;
    home.start().await.stop().await.success();
    for name in ["admin.token", "sealing.key", "onceguard.db"] {
        let mode = std::fs::metadata(home.folder().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_data_folder_is_served_once() {
    let home = Home::on(Database::Sqlite).await;
    let serving = home.start().await;
    let second = home.run(&["serve"]).await;
    assert_failed(&second, 4, &["another `onceguard serve` uses this data folder"]);
    assert_failed(&home.run(&["migrate", "redo", "--yes"]).await, 4, &["uses this data folder"]);
    serving.stop().await.success();
}

/// Whatever the file is called, and wherever the data folder is.
#[tokio::test]
async fn a_database_is_served_once() {
    let home = Home::on(Database::Sqlite).await;
    let serving = home.start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let database = home.folder().join("onceguard.db");
    let link = elsewhere.path().join("link.db");
    std::os::unix::fs::symlink(&database, &link).unwrap();
    let roundabout = home.folder().join("../").join(home.folder().file_name().unwrap());
    for path in [&database, &link, &roundabout.join("onceguard.db")] {
        let other = Home::at(&format!("sqlite://{}", path.display()));
        for command in [&["serve"][..], &["migrate", "up"], &["migrate", "down", "--yes"]] {
            let second = other.run(command).await;
            assert_failed(&second, 4, &["another `onceguard serve` uses this database"]);
        }
        assert!(!other.has_listened());
        // A command that writes beside it does, as before.
        other.run(&["token", "create", "--name", "a", "--scope", "nonces"]).await.success();
    }
    serving.stop().await.success();
    std::fs::hard_link(&database, elsewhere.path().join("hard.db")).unwrap();
    assert_failed(&home.run(&["serve"]).await, 4, &["2 names (hard links)"]);
    std::fs::remove_file(elsewhere.path().join("hard.db")).unwrap();
    home.start().await.stop().await.success();
}

/// An empty one in its place would accept again what the lost one had accepted.
#[tokio::test]
async fn a_database_that_is_gone_is_not_replaced_by_an_empty_one() {
    let home = Home::on(Database::Sqlite).await;
    home.start().await.stop().await.success();
    let database = home.folder().join("onceguard.db");
    let away = home.folder().join("away.db");
    std::fs::rename(&database, &away).unwrap();
    for kept in [&["sealing.key", "admin.token"][..], &["sealing.key"], &["admin.token"]] {
        let aside = tempfile::tempdir().unwrap();
        for name in ["sealing.key", "admin.token"] {
            if !kept.contains(&name) {
                std::fs::rename(home.folder().join(name), aside.path().join(name)).unwrap();
            }
        }
        let words = ["does not exist", kept[0], "put the database back", "onceguard migrate up"];
        assert_failed(&home.run(&["serve"]).await, 4, &words);
        let doctor = home.run(&["doctor"]).await;
        assert_eq!(doctor.code(), 1, "{doctor:?}");
        assert!(doctor.stdout.contains("put the database back"), "{doctor:?}");
        assert!(!database.exists());
        for entry in std::fs::read_dir(aside.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), home.folder().join(entry.file_name())).unwrap();
        }
    }
    // Both ways out.
    std::fs::rename(&away, &database).unwrap();
    home.start().await.stop().await.success();
    std::fs::remove_file(&database).unwrap();
    home.run(&["migrate", "up"]).await.success();
    home.start().await.stop().await.success();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_postgresql_does_not_replace_one_that_is_lost() {
    let empty = PostgresDatabase::create(false).await;
    let home = Home::with(empty).set("database.migrate_on_start", true);
    home.start().await.stop().await.success();
    home.run(&["migrate", "down", "--all", "--yes"]).await.success();
    let words = ["the database is empty", "admin.token", "onceguard migrate up"];
    assert_failed(&home.run(&["serve"]).await, 4, &words);
    home.run(&["migrate", "up"]).await.success();
    home.start().await.stop().await.success();
}

/// The certificate that the service shows.
async fn shown(serving: &Process) -> Vec<u8> {
    let verifier = Arc::new(Anyone(rustls::crypto::ring::default_provider()));
    let config = rustls::ClientConfig::builder_with_provider(verifier.0.clone().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(serving.api).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Takes any certificate, to look at it.
#[derive(Debug)]
struct Anyone(rustls::crypto::CryptoProvider);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_hangup_reads_the_certificate_again_and_a_bad_one_changes_nothing() {
    let home = with_certificate(Home::on(Database::Sqlite).await, -1..90);
    let serving = home.start().await;
    let first = shown(&serving).await;
    let told = async |words: &str, times: usize| {
        let told = async || (serving.output().matches(words).count() >= times).then_some(());
        wait_for(words, told).await;
    };
    std::fs::write(home.folder().join("tls.key"), "not PEM").unwrap();
    serving.signal("HUP");
    told("the new certificate cannot be used", 1).await;
    assert_eq!(shown(&serving).await, first);

    let home = with_certificate(home, -1..60);
    serving.signal("HUP");
    told("read the certificate again", 1).await;
    let second = shown(&serving).await;
    assert_ne!(second, first);
    assert_eq!(home.run(&["health"]).await.success(), "ready\n");
    serving.stop().await.success();
}

/// As a shell or `systemctl reload` sends it, also while the service starts.
#[tokio::test]
async fn a_hangup_ends_nothing() {
    let home = Home::on(Database::Sqlite).await;
    let serving = home.start().await;
    for _ in 0..3 {
        serving.signal("HUP");
    }
    let told = async || serving.output().contains("nothing to read again").then_some(());
    wait_for("the signal to be told", told).await;
    assert_eq!(home.run(&["health"]).await.success(), "ready\n");
    serving.stop().await.success();
}

#[tokio::test]
async fn the_configured_admin_token_is_taken_and_not_written_down() {
    let token = "og_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let home = Home::on(Database::Sqlite).await.set("auth.admin_token", token);
    let serving = home.start().await;
    assert!(!home.folder().join("admin.token").exists());
    let finished = serving.stop().await;
    assert!(!format!("{finished:?}").contains(token), "{finished:?}");
    finished.success();
}

#[tokio::test]
async fn a_log_for_machines_is_a_json_object_a_line_in_utc() {
    let home = Home::on(Database::Sqlite).await;
    let finished = home.start().await.stop().await;
    let mut messages = Vec::new();
    for line in finished.stderr.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let time = event["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.parse::<chrono::DateTime<chrono::Utc>>().is_ok());
        messages.push(event["message"].as_str().unwrap().to_owned());
    }
    for message in ["serving", "stopping", "stopped"] {
        assert!(messages.iter().any(|found| found == message), "{messages:?}");
    }
}

#[tokio::test]
async fn a_log_filter_that_is_none_stops_the_start() {
    let home = Home::on(Database::Sqlite).await;
    let mut command = home.command(&["serve"]);
    command.env("RUST_LOG", "a=b=c");
    assert_failed(&home.spawn(command).finished().await, 2, &["RUST_LOG=a=b=c: "]);
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::on(Database::Sqlite).await;
    let finished = home.run(&["serve", "--listen", &address]).await;
    assert_failed(&finished, 1, &["server.listen: cannot listen on ", &address]);
}

#[tokio::test]
async fn a_closed_standard_output_does_not_keep_it_from_serving() {
    let home = Home::on(Database::Sqlite).await;
    let mut command = Command::new("sh");
    home.equip(command.args(["-c", "exec \"$0\" serve >&-", env!("CARGO_BIN_EXE_onceguard")]));
    home.start_as(command).await.stop().await.success();
}
