//! `[resolvers.universal]`.

use super::*;

#[test]
fn without_a_url_there_is_no_universal_resolver() {
    for text in ["", "[resolvers.universal]\nurl = ''\nmethods = ['ion']"] {
        assert!(from_file(text).unwrap().config.resolvers.universal.is_none(), "{text}");
    }
    let loaded = from_environment(&[("ONCEGUARD_RESOLVERS__UNIVERSAL__URL", "")]).unwrap();
    assert!(loaded.config.resolvers.universal.is_none());
}

#[test]
fn the_url_may_hold_credentials_which_are_not_shown() {
    let url = "https://agent:hunter2@resolver.internal:8443/base?key=hunter2";
    let loaded = from_environment(&[
        ("ONCEGUARD_RESOLVERS__UNIVERSAL__URL", url),
        ("ONCEGUARD_RESOLVERS__UNIVERSAL__METHODS", "ion, ebsi"),
    ])
    .unwrap();
    assert_eq!(setting(&loaded, "resolvers.universal.url").value, "resolver.internal");
    let universal = loaded.config.resolvers.universal.unwrap();
    assert_eq!(universal.url.url().as_str(), url);
    assert_eq!(universal.methods, ["ion", "ebsi"]);
    assert!(!format!("{universal:?}").contains("hunter2"));
}

#[test]
fn what_is_no_url_is_refused_unseen() {
    for url in ["ftp://hunter2", "resolver.example", "https://", "https://hunter2/#a", "hunter2:"] {
        let problem =
            only_problem(from_environment(&[("ONCEGUARD_RESOLVERS__UNIVERSAL__URL", url)]));
        assert!(problem.contains("http:// or https:// URLs"), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn methods_are_names_of_methods() {
    for methods in ["['did:ion']", "['ION']", "['']", "'ion ebsi'", "7"] {
        let text = format!("[resolvers.universal]\nmethods = {methods}");
        let problem = only_problem(from_file(&text));
        assert!(problem.contains("names of DID methods"), "{problem}");
    }
}
