//! `onceguard config`, and how a wrong configuration stops every command.

use crate::doctor::with_certificate;
use crate::support::{Database, Home, SEALING_KEY};
use crate::{assert_failed, json};

#[tokio::test]
async fn check_says_that_all_is_well() {
    let home = Home::on(Database::Sqlite).await;
    let printed = home.run(&["config", "check"]).await.success();
    assert_eq!(printed, "the configuration is valid\n");
}

#[tokio::test]
async fn every_problem_stops_the_start_by_name() {
    let home = Home::on(Database::Sqlite)
        .await
        .set("server.workers", "many")
        .set("claims.queue", "0")
        .set("server.lissen", "127.0.0.1:1");
    for command in [&["config", "check"][..], &["serve"], &[], &["token", "list"]] {
        let finished = home.run(command).await;
        let words = [
            "server.workers = \"many\" (from ONCEGUARD_SERVER__WORKERS): must be a whole number",
            "claims.queue = \"0\" (from ONCEGUARD_CLAIMS__QUEUE): must be a whole number from 1",
            "ONCEGUARD_SERVER__LISSEN: there is no such key; [server] has listen",
        ];
        assert_failed(&finished, 2, &words);
    }
}

#[tokio::test]
async fn the_examples_in_the_repository_are_valid() {
    let root = env!("CARGO_MANIFEST_DIR");
    let home = Home::at("postgres://onceguard:secret@db.example.com/onceguard?sslmode=verify-full");
    // The files that they name exist where they are used.
    let home = with_certificate(home, -1..90);
    for file in ["default.toml", "production.toml"] {
        let file = format!("{root}/config/{file}");
        home.run(&["config", "check", "--config", &file]).await.success();
    }
}

/// Left out, or empty as an unset variable of a compose file is, it must not become a new SQLite
/// database.
#[tokio::test]
async fn the_example_for_production_needs_its_database() {
    let root = env!("CARGO_MANIFEST_DIR");
    let file = format!("{root}/config/production.toml");
    let home = Home::at("postgres://onceguard:secret@localhost/onceguard").set("data_dir", "./no");
    for empty in [false, true] {
        for command in ["serve", "doctor"] {
            let mut command = home.command(&[command, "--config", &file]);
            command.env_remove("DATABASE_URL");
            if empty {
                command.env("DATABASE_URL", "");
            }
            let finished = home.spawn(command).finished().await;
            assert!([1, 2].contains(&finished.code()), "{finished:?}");
            let told = format!("{}{}", finished.stdout, finished.stderr);
            assert!(told.contains("database.url = ***"), "{finished:?}");
            assert!(told.contains("names no database; set DATABASE_URL"), "{finished:?}");
        }
    }
}

#[tokio::test]
async fn postgresql_needs_a_sealing_key() {
    let home = Home::at("postgres://onceguard:secret@localhost/onceguard");
    let mut command = home.command(&["config", "check"]);
    command.env_remove("ONCEGUARD_SEALING__KEY");
    let words = ["sealing.key: is required on PostgreSQL", "onceguard sealing generate"];
    assert_failed(&home.spawn(command).finished().await, 2, &words);
}

#[tokio::test]
async fn show_tells_values_and_sources_but_no_secret() {
    let home = Home::at("postgres://onceguard:hunter2@localhost/onceguard");
    let token = "og_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let home = home.set("auth.admin_token", token);
    let arguments = ["config", "show", "--listen", "127.0.0.1:7"];
    let printed = home.run(&arguments).await.success();
    assert!(printed.contains("listen = \"127.0.0.1:7\"  # from --listen\n"), "{printed}");
    assert!(printed.contains("\n[database.pool]\n"), "{printed}");
    assert!(printed.contains("\nqueue = 16384\n"), "{printed}");

    let shown = json(home.run(&["config", "show", "--json"]).await);
    let setting = |key: &str| {
        let settings = shown["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["key"] == key).unwrap().clone()
    };
    assert_eq!(setting("database.url")["value"], "postgres://onceguard:***@localhost/onceguard");
    assert_eq!(setting("database.url")["source"], "DATABASE_URL");
    assert_eq!(setting("sealing.key")["value"], "***");
    assert_eq!(setting("auth.admin_token")["value"], "***");
    assert_eq!(setting("claims.max_batch")["source"], "default");
    for secret in ["hunter2", token, SEALING_KEY] {
        assert!(!printed.contains(secret) && !shown.to_string().contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_secret_in_a_broken_value_is_not_repeated() {
    let home = Home::at("mysql://root:hunter2@localhost/onceguard");
    let finished = home.set("sealing.key", "hunter2").run(&["serve"]).await;
    let words = ["database.url = *** (from DATABASE_URL)", "sealing.key = *** (from "];
    assert_failed(&finished, 2, &words);
    assert!(!finished.stderr.contains("hunter2"), "{finished:?}");
}

#[tokio::test]
async fn the_help_of_every_command_has_an_example() {
    let home = Home::on(Database::Sqlite).await;
    let mut parents = vec![vec![]];
    let mut looked_at = 0;
    while let Some(command) = parents.pop() {
        let help = home.run(&[&command[..], &["--help"]].concat()).await.success();
        let listed: Vec<_> = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .map_while(|line| line.strip_prefix("  "))
            // A description goes on, further to the right.
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(|name| -> &'static str { name.to_owned().leak() })
            .collect();
        if listed.is_empty() || command.is_empty() {
            assert!(help.contains("Example"), "{command:?}: {help}");
            looked_at += 1;
        }
        parents.extend(listed.into_iter().map(|name| [&command[..], &[name]].concat()));
    }
    assert!(looked_at > 20, "{looked_at}");
}

#[tokio::test]
async fn a_wrong_command_line_is_code_2() {
    let home = Home::on(Database::Sqlite).await;
    assert_failed(&home.run(&["frobnicate"]).await, 2, &["frobnicate"]);
    assert_failed(&home.run(&["serve", "--port", "1"]).await, 2, &["--port"]);
    home.run(&["--help"]).await.success();
}
