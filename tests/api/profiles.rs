//! Profiles of the configuration, through `POST /v1/verify`.

use onceguard::config::{Need, Signatures, Sources};
use onceguard::domain::KeyType;
use onceguard::signatures::Profile;
use onceguard::storage::PurgeStep;
use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, TestApp, minutes, purge_batch};
use crate::verify::{PATH, now, order, verify};

/// The configuration's profiles, as a file has them.
fn profiles(text: &str) -> Signatures {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let loaded = Sources::default().file(Some(file.path().to_owned())).load(Need::Database);
    loaded.unwrap().config.signatures
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_profile_of_the_configuration_is_judged_by(#[values(Sqlite, Postgres)] on: Database) {
    let signatures = profiles(
        "[signatures.profiles.partners]
        tag = 'partner'
        algorithms = ['ed25519']
        max_window_seconds = 60
        cover = ['@method', '@authority', 'date']
        [signatures.profiles.onceguard]
        max_window_seconds = 200",
    );
    let named = |name: &str| {
        signatures.profiles.iter().find(|profile| profile.name == name).unwrap().clone()
    };
    let partners = named("partners");
    let app = TestApp::start_with(on, |config| config.signatures = signatures.clone()).await;
    let ask = |key_type, signed_by: Profile| {
        let date = "Tue, 20 Apr 2021 02:07:55 GMT";
        let agent = Agent::with_profile(key_type, signed_by);
        let mut body = order().with("date", date).signed(&agent, now(&app)).to_verify();
        body["profile"] = "partners".into();
        body
    };
    let body = ask(KeyType::Ed25519, partners.clone());
    let answer = app.post(PATH, &body).await.is(200);
    assert_eq!(answer.text_of("profile"), "partners");
    let covered = ["@method", "@authority", "date", "content-digest", "content-type"];
    assert_eq!(answer["covered"], json!(covered.map(|name| format!("\"{name}\""))));
    app.post(PATH, &body).await.refused(403, "signature_replayed");

    let other = |change: fn(&mut Profile)| {
        let mut profile = partners.clone();
        change(&mut profile);
        profile
    };
    for (key_type, signed_by, code) in [
        (KeyType::Ed25519, Profile::onceguard(), "signature_tag_invalid"),
        (
            KeyType::P256,
            other(|profile| profile.algorithms = Profile::onceguard().algorithms),
            "signature_alg_not_allowed",
        ),
        (
            KeyType::Ed25519,
            other(|profile| profile.max_window = Profile::onceguard().max_window),
            "signature_window_invalid",
        ),
        (
            KeyType::Ed25519,
            other(|profile| profile.coverage = Profile::onceguard().coverage),
            "signature_components_incomplete",
        ),
    ] {
        app.post(PATH, &ask(key_type, signed_by)).await.refused(403, code);
    }

    // The default profile is a changed one.
    let strict = Agent::with_profile(KeyType::Ed25519, named("onceguard"));
    verify(&app, &order().signed(&strict, now(&app))).await.is(200);
    let shipped = order().signed(&Agent::new(KeyType::Ed25519), now(&app));
    verify(&app, &shipped).await.refused(403, "signature_window_invalid");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_message_passes_one_profile_only_however_late(#[values(Sqlite, Postgres)] on: Database) {
    let signatures = profiles("[signatures.profiles.patient]\nskew_seconds = 3600");
    let app = TestApp::start_with(on, |config| config.signatures = signatures).await;
    let message = order().signed(&Agent::new(KeyType::Ed25519), now(&app));
    verify(&app, &message).await.is(200);
    app.store().pass(minutes(20)).await;
    let purge = PurgeStep::DeleteSignerNonces { margin: app.config().claims.purge_margin };
    purge_batch(app.store(), purge, 10).await;
    let mut body = message.to_verify();
    body["profile"] = "patient".into();
    app.post(PATH, &body).await.refused(403, "signature_replayed");
}
