//! Which hosts did:web is read from.

use std::path::Path;

use serde_json::json;

use super::{Host, from_environment, from_file, only_problem, setting};

#[test]
fn hosts_and_authorities_may_be_named() {
    let loaded = from_environment(&[
        ("ONCEGUARD_RESOLVERS__WEB__ALLOWED_HOSTS", "Agents.Example, 10.0.0.5"),
        ("ONCEGUARD_RESOLVERS__WEB__CA_FILE", "ca.pem"),
    ])
    .unwrap();
    let shown = &setting(&loaded, "resolvers.web.allowed_hosts").value;
    assert_eq!(*shown, json!(["agents.example", "10.0.0.5"]));
    let web = loaded.config.resolvers.web;
    assert_eq!(web.allowed_hosts, ["agents.example", "10.0.0.5"].map(|h| Host::parse(h).unwrap()));
    assert_eq!(web.ca_file.as_deref(), Some(Path::new("ca.pem")));
    assert!(!web.allow_private_addresses);

    let any = from_file("[resolvers.web]\nallowed_hosts = []").unwrap();
    assert_eq!(any.config.resolvers.web.allowed_hosts, []);
}

#[test]
fn what_is_no_host_is_refused() {
    for hosts in ["", "a.example:443", "https://a.example", "a.example,", "*.example"] {
        let problem =
            only_problem(from_environment(&[("ONCEGUARD_RESOLVERS__WEB__ALLOWED_HOSTS", hosts)]));
        assert!(problem.starts_with("resolvers.web.allowed_hosts = "), "{problem}");
        assert!(problem.ends_with("host names and IP addresses, without ports"), "{problem}");
    }
    for text in ["allowed_hosts = 'a.example'", "ca_file = ''", "allow_private_addresses = 'yes'"] {
        only_problem(from_file(&format!("[resolvers.web]\n{text}")));
    }
}
