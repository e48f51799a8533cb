//! The sources together: precedence, defaults, and what the errors say.

mod registry;
mod signatures;
mod universal;
mod web;
mod webhooks;

use std::io::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::config::{DatabaseUrl, SslMode};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn from_file(text: &str) -> Result<Loaded, InvalidConfig> {
    let file = file(text);
    Sources::default().file(Some(file.path().to_owned())).load(Need::Everything)
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Loaded, InvalidConfig> {
    Sources::default().environment(variables.iter().copied()).load(Need::Everything)
}

fn setting<'a>(loaded: &'a Loaded, key: &str) -> &'a Setting {
    loaded.settings.iter().find(|setting| setting.key == key).unwrap()
}

fn only_problem(result: Result<Loaded, InvalidConfig>) -> String {
    let InvalidConfig(problems) = result.unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

#[test]
fn the_defaults_are_valid() {
    let loaded = Sources::default().load(Need::Everything).unwrap();
    assert!(loaded.settings.iter().all(|setting| setting.origin == Origin::Default));
    assert_eq!(setting(&loaded, "database.url").value, "sqlite://./data/onceguard.db");
}

#[test]
fn later_sources_win() {
    let file = file("[server]\nlisten = '127.0.0.1:1'\nworkers = 3\n[database.pool]\nmax = 7");
    let loaded = Sources::default()
        .file(Some(file.path().to_owned()))
        .environment([
            ("ONCEGUARD_SERVER__LISTEN", "127.0.0.1:2"),
            ("ONCEGUARD_DATABASE__POOL__MAX", "8"),
            ("ONCEGUARD_DATA_DIR", "/tmp/of-environment"),
        ])
        .flag("--listen", "server.listen", Some("127.0.0.1:3".into()))
        .flag("--data-dir", "data_dir", None)
        .load(Need::Everything)
        .unwrap();
    assert_eq!(loaded.config.server.listen.port(), 3);
    assert_eq!(loaded.config.server.workers, 3);
    assert_eq!(loaded.config.database.pool.max, 8);
    assert_eq!(loaded.config.data_dir, PathBuf::from("/tmp/of-environment"));
    assert_eq!(setting(&loaded, "server.listen").origin, Origin::Flag("--listen"));
    assert_eq!(setting(&loaded, "server.workers").origin, Origin::File(file.path().to_owned()));
}

#[test]
fn default_toml_has_every_key_and_its_default() {
    let text = include_str!("../../config/default.toml");
    let built_in = Sources::default().load(Need::Everything).unwrap().settings;

    let mut documented = Vec::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        }
        let (commented, line) = match line.strip_prefix("# ") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let Some((name, value)) = line.split_once(" = ") else { continue };
        if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            let value = if commented { Value::Null } else { serde_json::from_str(value).unwrap() };
            documented.push((format!("{section}{name}"), value));
        }
    }
    documented.sort_by(|a, b| a.0.cmp(&b.0));

    let mut expected: Vec<_> = built_in
        .into_iter()
        .map(|setting| {
            // It depends on `data_dir`, so it cannot be written down.
            let value = if setting.key == "database.url" { Value::Null } else { setting.value };
            (setting.key, value)
        })
        .collect();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(documented, expected);
    from_file(text).unwrap();
}

#[test]
fn every_example_in_default_toml_is_valid() {
    let text: String = include_str!("../../config/default.toml")
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") && !rest.contains("url = ") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let loaded = from_file(&text).unwrap();
    assert_eq!(setting(&loaded, "sealing.key").value, "***");
    assert_eq!(setting(&loaded, "auth.admin_token").value, "***");
}

#[test]
fn every_problem_is_told_at_once() {
    let error = from_file(
        "[server]\nlisten = 'nowhere'\nworkers = 'many'\nshutdown_timeout_seconds = 0\nlissen = 1\n\
         [log]\nformat = 'xml'",
    )
    .unwrap_err();
    let text = error.to_string();
    for part in [
        "server.listen = \"nowhere\" (from /",
        "must be an IP address and a port",
        "server.workers = \"many\"",
        "must be a whole number from 0 to 1024",
        "server.shutdown_timeout_seconds = 0",
        "must be a whole number from 1 to 3600",
        "server.lissen (from /",
        "there is no such key; [server] has listen, workers,",
        "log.format = \"xml\"",
        "must be auto, human or json",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(error.0.len(), 5);
}

#[test]
fn a_value_out_of_range_is_named_with_its_variable() {
    assert_eq!(
        only_problem(from_environment(&[("ONCEGUARD_CLAIMS__MAX_BATCH", "5000")])),
        "claims.max_batch = \"5000\" (from ONCEGUARD_CLAIMS__MAX_BATCH): \
         must be a whole number from 1 to 4096"
    );
}

#[test]
fn unknown_keys_are_refused_wherever_they_are() {
    let text = only_problem(from_environment(&[("ONCEGUARD_SERVER__LISSEN", "hunter2")]));
    assert!(text.starts_with("ONCEGUARD_SERVER__LISSEN: there is no such key; [server] has"));
    assert!(!text.contains("hunter2"));
    let text = only_problem(from_environment(&[("ONCEGUARD_LISTEN", "x")]));
    assert!(text.contains("the sections server, ops, database"), "{text}");
    let text = only_problem(from_file("[cluster]"));
    assert!(text.starts_with("cluster (from "), "{text}");
    from_file("[server]\n[database.pool]").unwrap();
    from_environment(&[("ONCEGUARDIAN", "x"), ("PATH", "/bin")]).unwrap();
}

#[test]
fn the_token_of_a_caller_is_no_setting() {
    let loaded = from_environment(&[("ONCEGUARD_TOKEN", "og_secret")]).unwrap();
    assert!(loaded.settings.iter().all(|setting| setting.key != "token"));
    // Only this name, not what looks like it.
    only_problem(from_environment(&[("ONCEGUARD_TOKENS", "og_secret")]));
}

#[test]
fn the_variables_of_a_kubernetes_service_are_not_ours() {
    from_environment(&[
        ("ONCEGUARD_SERVICE_HOST", "10.0.0.1"),
        ("ONCEGUARD_SERVICE_PORT_HTTP", "8080"),
        ("ONCEGUARD_PORT", "tcp://10.0.0.1:8080"),
        ("ONCEGUARD_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ])
    .unwrap();
    only_problem(from_environment(&[("ONCEGUARD_PORT", "8080")]));
}

#[test]
fn a_file_that_cannot_be_used_is_named_without_its_content() {
    let text = only_problem(
        Sources::default().file(Some("/nowhere/x.toml".into())).load(Need::Everything),
    );
    assert!(text.starts_with("/nowhere/x.toml: cannot be read: "), "{text}");
    let text = only_problem(from_file("[sealing]\nkey = hunter2"));
    assert!(text.contains(", line 2: is not TOML: "), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn sections_check_what_belongs_together() {
    for (text, expected) in [
        ("[database.pool]\nmax = 2\nmin = 3", "database.pool.min = 3 (from "),
        ("[sessions]\nmax_ttl_seconds = 60", "sessions.default_ttl_seconds = 3600 (from the"),
        ("[server]\ntls.cert = 'a'", "server.tls.key: is missing"),
        ("[server]\ntls.key = 'a'", "server.tls.cert: is missing"),
        ("[server]\ntls.key = 'a'\ntls.cert = 5", "server.tls.cert = 5 (from "),
        ("[server]\nlisten = '127.0.0.1:9464'", "ops.listen = \"127.0.0.1:9464\" (from the"),
    ] {
        let problem = only_problem(from_file(text));
        assert!(problem.starts_with(expected), "{problem}");
    }
}

#[test]
fn types_are_not_guessed() {
    for text in [
        "[server]\nworkers = 1.0",
        "[server]\nworkers = '1'",
        "[server]\nallow_plaintext_keys = 'true'",
        "[server]\nallow_plaintext_keys = 1",
        "[server]\nlisten = 8080",
        "[server]\nworkers = -1",
        "[log]\nfilter = 'a=b=c'",
        "data_dir = ''",
        "[sealing]\nold_keys = 'AA=='",
        "[server]\nallowed_hosts = 'a.example'",
        "[forward_auth]\npublic = 'true'",
    ] {
        only_problem(from_file(text));
    }
    only_problem(from_environment(&[("ONCEGUARD_SERVER__ALLOW_PLAINTEXT_KEYS", "yes")]));
}

#[test]
fn the_service_knows_its_names() {
    let names = [
        ("ONCEGUARD_SERVER__PUBLIC_URL", "https://Guard.example:8443/"),
        ("ONCEGUARD_SERVER__ALLOWED_HOSTS", "Guard.example, [::1]"),
    ];
    let loaded = from_environment(&names).unwrap();
    let url = loaded.config.server.public_url.as_ref().unwrap();
    assert_eq!((url.scheme, url.authority.as_str()), ("https", "Guard.example:8443"));
    let hosts = [Host::parse("guard.example").unwrap(), Host::parse("::1").unwrap()];
    assert_eq!(loaded.config.server.allowed_hosts.as_deref(), Some(&hosts[..]));
    assert_eq!(setting(&loaded, "server.public_url").value, "https://Guard.example:8443");
    assert_eq!(setting(&loaded, "server.allowed_hosts").value, json!(["guard.example", "::1"]));
    for url in ["", "guard.example", "ftp://a", "https://a/b", "https://a?", "https://u@a"] {
        only_problem(from_environment(&[("ONCEGUARD_SERVER__PUBLIC_URL", url)]));
    }
    for hosts in ["", "a:80", "a,,b", "https://a"] {
        only_problem(from_environment(&[("ONCEGUARD_SERVER__ALLOWED_HOSTS", hosts)]));
    }
}

#[test]
fn secrets_never_show() {
    let problem = only_problem(from_environment(&[("ONCEGUARD_SEALING__KEY", "hunter2")]));
    assert!(
        problem.starts_with("sealing.key = *** (from ONCEGUARD_SEALING__KEY): must be 32 bytes")
    );
    let problem = only_problem(from_environment(&[("ONCEGUARD_AUTH__ADMIN_TOKEN", "hunter2")]));
    assert!(!problem.contains("hunter2"), "{problem}");
    let problem = only_problem(from_environment(&[("DATABASE_URL", "mysql://u:hunter2@h/d")]));
    assert!(problem.starts_with("database.url = *** (from DATABASE_URL): "), "{problem}");
    assert!(!problem.contains("hunter2"), "{problem}");

    let token = "og_hunter2hunter2hunter2hunter2hunter2hunter2A";
    let old = format!("{KEY},{KEY}");
    let loaded = from_environment(&[
        ("ONCEGUARD_SEALING__KEY", KEY),
        ("ONCEGUARD_SEALING__OLD_KEYS", &old),
        ("ONCEGUARD_AUTH__ADMIN_TOKEN", token),
    ])
    .unwrap();
    assert_eq!(setting(&loaded, "sealing.old_keys").value, json!(["***", "***"]));
    assert_eq!(loaded.config.sealing.old_keys.len(), 2);
    let everything = format!("{loaded:?}");
    assert!(!everything.contains("hunter2") && !everything.contains(KEY), "{everything}");
}

const POSTGRES: &str = "postgres://onceguard:hunter2@localhost/onceguard";

/// Loads for a command that does not touch session keys.
fn database_from(variables: &[(&str, &str)]) -> Result<Loaded, InvalidConfig> {
    Sources::default().environment(variables.iter().copied()).load(Need::Database)
}

#[test]
fn the_nearest_database_url_wins() {
    let parts = [("DB_HOST", "parts"), ("DB_USER", "u"), ("DB_NAME", "d")];
    let mut variables = parts.to_vec();
    let url = |variables: &[(&str, &str)]| {
        let loaded = database_from(variables).unwrap();
        let setting = setting(&loaded, "database.url").clone();
        (setting.value, setting.origin.to_string())
    };
    let (value, origin) = url(&variables);
    assert_eq!(
        (value, origin.as_str()),
        ("postgres://u@parts:5432/d".into(), "DB_HOST and others")
    );
    variables.push(("DATABASE_URL", POSTGRES));
    let (value, origin) = url(&variables);
    assert_eq!(value, "postgres://onceguard:***@localhost/onceguard");
    assert_eq!(origin, "DATABASE_URL");
    variables.push(("ONCEGUARD_DATABASE__URL", "sqlite:///tmp/x.db"));
    assert_eq!(url(&variables).0, "sqlite:///tmp/x.db");
}

#[test]
fn the_parts_of_a_database_url_are_escaped() {
    let loaded = database_from(&[
        ("DB_HOST", "::1"),
        ("DB_PORT", "6432"),
        ("DB_USER", "a@b"),
        ("DB_PASSWORD", "p%41:@/?#"),
        ("DB_NAME", "d/e"),
        ("DB_SSLMODE", "verify-full"),
    ])
    .unwrap();
    let DatabaseUrl::Postgres(options) = loaded.config.database.url else { panic!("not postgres") };
    let connection = &options.connection;
    assert_eq!(connection.get_user(), Some("a@b"));
    assert_eq!(connection.get_password(), Some("p%41:@/?#".as_bytes()));
    assert_eq!(connection.get_dbname(), Some("d/e"));
    assert_eq!(connection.get_ports(), [6432]);
    assert_eq!(connection.get_hosts(), [tokio_postgres::config::Host::Tcp("::1".into())]);
    assert_eq!(options.ssl_mode, SslMode::VerifyFull);
}

#[test]
fn half_a_database_is_not_taken_for_none() {
    for (variables, expected) in [
        (&[("DB_NAME", "d")][..], "DB_NAME: is not enough"),
        (&[("DB_HOST", "h"), ("DB_USER", "u")], "DB_HOST: is not enough"),
        (&[("DB_HOST", "h"), ("DB_USER", "u"), ("DB_NAME", "d"), ("DB_PORT", "x")], "DB_PORT: "),
        (&[("DB_HOST", "h/x"), ("DB_USER", "u"), ("DB_NAME", "d")], "DB_HOST: must be a host"),
        (&[("DATABASE_URL", "")], "database.url = *** (from DATABASE_URL): "),
    ] {
        let problem = only_problem(database_from(variables));
        assert!(problem.starts_with(expected), "{problem}");
    }
}

#[test]
fn a_distant_database_is_not_reached_in_the_clear_by_accident() {
    let distant = ("DATABASE_URL", "postgres://u:hunter2@db.example.com/d?sslmode=disable");
    let problem = only_problem(database_from(&[distant]));
    assert!(problem.contains("sslmode=verify-full"), "{problem}");
    assert!(!problem.contains("hunter2"), "{problem}");
    database_from(&[distant, ("ONCEGUARD_DATABASE__ALLOW_PLAINTEXT", "true")]).unwrap();
    for near in ["localhost", "127.0.0.1", "[::1]"] {
        let url = format!("postgres://u@{near}/d?sslmode=disable");
        database_from(&[("DATABASE_URL", &url)]).unwrap();
    }
}

#[test]
fn postgresql_needs_a_sealing_key_for_all_that_touches_session_keys() {
    let problem = only_problem(from_environment(&[("DATABASE_URL", POSTGRES)]));
    assert!(problem.starts_with("sealing.key: is required on PostgreSQL"), "{problem}");
    assert!(problem.contains("`onceguard sealing generate`"), "{problem}");
    database_from(&[("DATABASE_URL", POSTGRES)]).unwrap();
    from_environment(&[("DATABASE_URL", POSTGRES), ("ONCEGUARD_SEALING__KEY", KEY)]).unwrap();
}

#[test]
fn a_password_in_a_database_url_is_masked_wherever_it_is() {
    for (url, masked) in [
        (POSTGRES, "postgres://onceguard:***@localhost/onceguard"),
        ("postgres://h/d?user=u&password=hunter2", "postgres://h/d?user=u&password=***"),
        ("postgres://u:hunter2@a:1,b:2/d", "postgres://***"),
    ] {
        let loaded = database_from(&[("DATABASE_URL", url)]).unwrap();
        assert_eq!(setting(&loaded, "database.url").value, masked);
        let everything = format!("{loaded:?}");
        assert!(!everything.contains("hunter2"), "{everything}");
    }
}
