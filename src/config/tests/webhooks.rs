//! `[webhooks.endpoints.<name>]`: webhooks that the configuration names.

use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{Origin, Sources, file, from_file, only_problem, setting};
use crate::config::Need;

/// 32 bytes.
const SECRET: &str = "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

fn endpoint(name: &str, rest: &str) -> String {
    format!("[webhooks.endpoints.{name}]\n{rest}\n")
}

fn whole() -> String {
    format!("url = 'https://a.example/s3cret'\ntypes = ['a.b', '*']\nsecret = '{SECRET}'")
}

#[test]
fn endpoints_have_names_and_hide_their_secrets() {
    assert_eq!(from_file("").unwrap().config.webhooks.endpoints.len(), 0);
    let text = endpoint("shop", &whole()) + &endpoint("b-2", &whole());
    let loaded = from_file(&text).unwrap();
    let endpoints = &loaded.config.webhooks.endpoints;
    assert_eq!((endpoints[0].name.as_str(), endpoints[1].name.as_str()), ("b-2", "shop"));
    assert_eq!(endpoints[1].url.expose_secret(), "https://a.example/s3cret");
    assert_eq!(endpoints[1].types, ["a.b", "*"]);
    assert_eq!(*endpoints[1].secret.bytes, [7; 32]);
    for key in ["url", "secret"] {
        assert_eq!(setting(&loaded, &format!("webhooks.endpoints.shop.{key}")).value, "***");
    }
    assert_eq!(setting(&loaded, "webhooks.endpoints.shop.types").value, json!(["a.b", "*"]));
    let debug = format!("{:?}", loaded.config);
    assert!(!debug.contains("s3cret") && !debug.contains("BwcHB"), "{debug}");
}

#[test]
fn a_secret_may_come_from_the_environment() {
    let file = file(&endpoint("shop", "url = 'https://a.example/'\ntypes = ['*']"));
    let variable = "ONCEGUARD_WEBHOOKS__ENDPOINTS__SHOP__SECRET";
    let sources = Sources::default().file(Some(file.path().to_owned()));
    let loaded = sources.environment([(variable, SECRET)]).load(Need::Everything).unwrap();
    assert_eq!(*loaded.config.webhooks.endpoints[0].secret.bytes, [7; 32]);
    let origin = &setting(&loaded, "webhooks.endpoints.shop.secret").origin;
    assert_eq!(*origin, Origin::Environment(variable.to_owned()));
}

#[test]
fn what_is_wrong_is_told_by_its_key_without_its_secret() {
    let with = |from: &str, to: &str| endpoint("shop", &whole().replace(from, to));
    for (text, begins, ends) in [
        (with("whsec_", ""), "webhooks.endpoints.shop.secret = ***", "32 bytes in base64"),
        (with("BwcHBwcH", ""), "webhooks.endpoints.shop.secret = ***", "32 bytes in base64"),
        (with("'a.b', '*'", ""), "webhooks.endpoints.shop.types = []", "1 to 100 types of events"),
        (with("a.b", "onceguard.no"), "webhooks.endpoints.shop.types = ", "onceguard.did.revoked"),
        (with("types", "typos"), "webhooks.endpoints.shop.typ", ""),
        (endpoint("Shop", &whole()), "webhooks.endpoints.Shop", "a to z, 0 to 9, - and _"),
    ] {
        let error = from_file(&text).unwrap_err().to_string();
        assert!(error.contains(begins) && error.contains(ends), "{error}");
        assert!(!error.contains("BwcHB") && !error.contains("s3cret"), "{error}");
    }
    for missing in ["url", "types", "secret"] {
        let kept = whole();
        let rest: Vec<_> = kept.lines().filter(|line| !line.starts_with(missing)).collect();
        let problem = only_problem(from_file(&endpoint("shop", &rest.join("\n"))));
        assert!(problem.starts_with(&format!("webhooks.endpoints.shop.{missing}")), "{problem}");
        assert!(problem.ends_with("is required"), "{problem}");
    }
}
