//! Where did:sage is read from.

use serde_json::json;

use super::{from_environment, from_file, only_problem, setting};

#[test]
fn an_endpoint_may_hold_secrets() {
    let endpoints = "http://user:hunter2@127.0.0.1:8545/hunter2?key=hunter2,https://rpc.example";
    let contract = "0x5fbdb2315678afecb367f032d93f642f64180aa3";
    let loaded = from_environment(&[
        ("ONCEGUARD_RESOLVERS__REGISTRY__ENDPOINTS", endpoints),
        ("ONCEGUARD_RESOLVERS__REGISTRY__CONTRACT", contract),
    ])
    .unwrap();
    let shown = &setting(&loaded, "resolvers.registry.endpoints").value;
    assert_eq!(*shown, json!(["127.0.0.1", "rpc.example"]));
    let shown = &setting(&loaded, "resolvers.registry.contract").value;
    assert_eq!(*shown, json!("0x5FbDB2315678afecb367f032d93F642f64180aa3"));
    let registry = loaded.config.resolvers.registry.unwrap();
    assert_eq!(registry.endpoints[0].url().password(), Some("hunter2"));
    assert!(!format!("{registry:?}").contains("hunter2"));

    for endpoints in ["ws://hunter2.example", "https://hunter2.example/#x", "hunter2", ","] {
        let text = only_problem(from_environment(&[(
            "ONCEGUARD_RESOLVERS__REGISTRY__ENDPOINTS",
            endpoints,
        )]));
        assert!(text.starts_with("resolvers.registry.endpoints = *** (from ONCEGUARD_"), "{text}");
        assert!(text.ends_with("up to 8 http:// or https:// URLs without a fragment"), "{text}");
    }
}

#[test]
fn endpoints_need_a_contract() {
    let text = only_problem(from_file("[resolvers.registry]\nendpoints = ['https://rpc.example']"));
    assert_eq!(
        text,
        "resolvers.registry.contract: is missing: resolvers.registry.endpoints needs the address \
         of the contract"
    );
    for contract in [
        "5fbdb2315678afecb367f032d93f642f64180aa3",
        "0x5fbdb2315678afecb367f032d93f642f64180aa",
        "0x5fbdb2315678afecb367f032d93f642f64180aag",
        // One letter of the checksum is of the wrong case.
        "0x5FbDB2315678afecb367f032d93F642f64180aA3",
    ] {
        let text = only_problem(from_environment(&[
            ("ONCEGUARD_RESOLVERS__REGISTRY__ENDPOINTS", "https://rpc.example"),
            ("ONCEGUARD_RESOLVERS__REGISTRY__CONTRACT", contract),
        ]));
        assert!(text.contains("must be 0x and 40 hexadecimal digits"), "{text}");
    }
    // Without endpoints, nothing is read and nothing is needed.
    let loaded = from_environment(&[("ONCEGUARD_RESOLVERS__REGISTRY__ENDPOINTS", "")]).unwrap();
    assert!(loaded.config.resolvers.registry.is_none());
}
