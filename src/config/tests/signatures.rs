//! `[signatures.profiles.<name>]`: the shipped profiles, changed ones, new ones, wrong ones.

use chrono::Duration;

use super::*;
use crate::signatures::{Algorithm, Component, Coverage, Profile};

fn profiles(text: &str) -> Vec<Profile> {
    from_file(text).unwrap().config.signatures.profiles
}

#[test]
fn the_shipped_profiles_are_the_defaults() {
    let shipped = [Profile::onceguard(), Profile::sage()];
    assert_eq!(profiles(""), shipped);
    assert_eq!(profiles(include_str!("../../../config/default.toml")), shipped);
}

#[test]
fn a_shipped_profile_is_changed_key_by_key() {
    let file = file("[signatures.profiles.sage]\nskew_seconds = 5\ntag = 'sage'");
    let loaded = Sources::default()
        .file(Some(file.path().to_owned()))
        .environment([
            ("ONCEGUARD_SIGNATURES__PROFILES__SAGE__TAG", "agent"),
            ("ONCEGUARD_SIGNATURES__PROFILES__SAGE__ALGORITHMS", "es256k, ed25519"),
            ("ONCEGUARD_SIGNATURES__PROFILES__SAGE__DEFAULT_LIFETIME_SECONDS", "0"),
            ("ONCEGUARD_SIGNATURES__PROFILES__ONCEGUARD__TAG", ""),
        ])
        .load(Need::Everything)
        .unwrap();
    let sage = Profile {
        tag: Some("agent".to_owned()),
        algorithms: vec![Algorithm::Es256kKeccak, Algorithm::Ed25519],
        default_lifetime: None,
        skew: Duration::seconds(5),
        ..Profile::sage()
    };
    let onceguard = Profile { tag: None, ..Profile::onceguard() };
    assert_eq!(loaded.config.signatures.profiles, [onceguard, sage]);
    let skew = setting(&loaded, "signatures.profiles.sage.skew_seconds");
    assert_eq!((&skew.value, &skew.origin), (&json!(5), &Origin::File(file.path().to_owned())));
}

#[test]
fn another_name_is_a_new_profile() {
    let text = "[signatures.profiles.partners]\ntag = 'partner'\nalgorithms = ['ed25519']\n\
                alg_required = true\nmin_nonce_length = 32\ndefault_lifetime_seconds = 20\n\
                max_window_seconds = 86400\nskew_seconds = 3600\n\
                cover = ['@method', '@authority', 'date']\n\
                [signatures.profiles.empty]";
    let partners = Profile {
        name: "partners".to_owned(),
        tag: Some("partner".to_owned()),
        algorithms: vec![Algorithm::Ed25519],
        alg_required: true,
        min_nonce_len: 32,
        default_lifetime: Some(Duration::seconds(20)),
        max_window: Duration::days(1),
        skew: Duration::hours(1),
        coverage: Coverage::of(vec![
            Component::Method,
            Component::Authority,
            Component::field("date"),
        ]),
    };
    let empty = Profile { name: "empty".to_owned(), tag: None, ..Profile::onceguard() };
    assert_eq!(profiles(text), [Profile::onceguard(), Profile::sage(), empty, partners]);
}

#[test]
fn a_wrong_profile_is_refused_by_name() {
    for (line, expected) in [
        ("tag = 1", "tag = 1 (from"),
        ("tag = 'é'", "must be up to 255 characters of printable ASCII"),
        (
            "algorithms = ['rsa-v1_5-sha256']",
            "must be a list of ed25519, ecdsa-p256-sha256, ES256K",
        ),
        ("algorithms = []", "at least one"),
        ("algorithms = ['ES256K', 'es256k']", "one for each type of key"),
        ("algorithms = ['ED25519']", "must be a list of ed25519"),
        ("alg_required = true", "alg_required = true (from"),
        ("min_nonce_length = 0", "must be a whole number from 1 to 255"),
        (
            "default_lifetime_seconds = 301",
            "must not be more than max_window_seconds, which is 300",
        ),
        ("max_window_seconds = 86401", "must be a whole number from 1 to 86400"),
        ("max_window_seconds = 0", "must be a whole number from 1 to 86400"),
        ("skew_seconds = 3601", "must be a whole number from 0 to 3600"),
        ("skew_seconds = -1", "must be a whole number from 0 to 3600"),
        ("cover = []", "must be a list of different components"),
        ("cover = ['@method', '@method']", "must be a list of different components"),
        ("cover = ['@status']", "belongs to a response"),
        ("cover = ['Date']", "\"Date\" is no component that we know"),
        ("skew = 1", "there is no such key; [signatures.profiles.partners] has tag, algorithms,"),
    ] {
        let text = format!("[signatures.profiles.partners]\n{line}");
        let problem = only_problem(from_file(&text));
        let key = line.split_once(" =").unwrap().0;
        assert!(problem.starts_with(&format!("signatures.profiles.partners.{key} ")), "{problem}");
        assert!(problem.contains(expected), "{problem}");
    }
    for name in ["Partners", "'a b'", "''"] {
        let problem = only_problem(from_file(&format!("[signatures.profiles.{name}]")));
        assert!(problem.contains("a name is 1 to 64 of a to z"), "{problem}");
    }
}

#[test]
fn the_environment_names_no_new_profile() {
    let variable = "ONCEGUARD_SIGNATURES__PROFILES__SGAE__SKEW_SECONDS";
    let problem = only_problem(from_environment(&[(variable, "5")]));
    assert!(problem.starts_with(&format!("{variable}: there is no such key")), "{problem}");
}
