//! `onceguard transfer` into PostgreSQL is killed at each step, or cut off, and the same command goes on.

use onceguard::config::DatabaseUrl;
use onceguard::storage::place;
use rstest::rstest;

use crate::backup::many_nonces;
use crate::restore::{Rows, held, settled, without};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{ChaosProxy, Home, PostgresDatabase, RawSql, Running, wait_for};
use crate::{assert_failed, json, migrated};

/// The number of the advisory lock that the triggers below wait for.
const GATE: i64 = 4711;

/// Where a transfer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// In the third chunk of `signer_nonces`.
    Chunk,
    /// When all chunks are there, before it says what it has.
    Complete,
    /// When the source is moved for ever, before the commit.
    Commit,
}

impl Step {
    const fn trigger(self) -> &'static str {
        match self {
            Self::Chunk => {
                "CREATE TRIGGER gate BEFORE INSERT ON signer_nonces FOR EACH STATEMENT \
                 EXECUTE FUNCTION gate(20000)"
            }
            Self::Complete => {
                "CREATE TRIGGER gate BEFORE INSERT ON history FOR EACH STATEMENT \
                 EXECUTE FUNCTION gate(0)"
            }
            Self::Commit => {
                "CREATE CONSTRAINT TRIGGER gate AFTER UPDATE ON transfers \
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.confirmed_at IS NOT NULL) \
                 EXECUTE FUNCTION gate(0)"
            }
        }
    }
}

/// Two databases, and a gate in the target that a transfer waits at.
struct Road {
    from: Home,
    to: Home,
    gate: RawSql,
    /// What the source holds.
    before: Rows,
}

impl Road {
    async fn with(from: Database, step: Step) -> Self {
        let home = migrated(from).await;
        home.run(&["seed", "staging"]).await.success();
        many_nonces(&home, from).await;
        let to = Home::with(PostgresDatabase::create(true).await);
        let gate = to.raw().await;
        let wait = format!(
            "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF (SELECT count(*) FROM signer_nonces) >= TG_ARGV[0]::bigint THEN \
             PERFORM pg_advisory_xact_lock({GATE}); END IF; RETURN NULL; END $$"
        );
        for sql in [&*wait, step.trigger(), &format!("SELECT pg_advisory_lock({GATE})")] {
            gate.execute(sql).await;
        }
        let before = held(&home).await;
        Self { from: home, to, gate, before }
    }

    fn command(&self) -> [String; 6] {
        ["transfer", "--from", &self.from.url(), "--to", &self.to.url(), "--yes"].map(str::to_owned)
    }

    /// Starts the transfer, and returns when it waits.
    async fn start(&self, command: &[String]) -> Running {
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        let running = Running::start(self.from.command(&command));
        let waiting = format!(
            "count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = {GATE} \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        wait_for("the transfer to wait", async || {
            (self.gate.number(&waiting).await == 1).then_some(())
        })
        .await;
        running
    }

    /// Kills the transfer there. What the server is at goes on.
    async fn kill(&self) {
        let mut running = self.start(&self.command()).await;
        running.kill();
        running.finished().await;
    }

    async fn open(&self) {
        self.gate.execute(&format!("SELECT pg_advisory_unlock({GATE})")).await;
    }

    /// Waits until only the test is connected.
    async fn settle(&self) {
        let others = "count(*) FROM pg_stat_activity WHERE datname = current_database() \
                      AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        wait_for("the server to notice", async || {
            (self.gate.number(others).await == 0).then_some(())
        })
        .await;
    }

    async fn run(&self) -> crate::support::Finished {
        let command = self.command();
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        self.from.run(&command).await
    }

    fn place_of_source(&self) -> String {
        place(&DatabaseUrl::parse(&self.from.url()).unwrap())
    }

    async fn assert_moved(&self) {
        let after = held(&self.to).await;
        for table in ["sessions", "nonces", "signer_nonces", "dids", "history"] {
            assert_eq!(without(&after, table, &[]), without(&self.before, table, &[]), "{table}");
        }
        assert_failed(&self.from.run(&["serve"]).await, 4, &["was moved to", "for ever"]);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_step_it_goes_on(
    #[values(Sqlite, Postgres)] from: Database,
    #[values(Step::Chunk, Step::Complete, Step::Commit)] step: Step,
) {
    let road = Road::with(from, step).await;
    road.kill().await;
    // What the server has not committed is lost.
    let end = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    road.gate.execute(end).await;
    road.open().await;
    let moved = road.from.raw().await.number("count(moved_at) FROM transfers").await;
    assert_eq!(moved, i64::from(step == Step::Commit));
    let writers = road.gate.text("string_agg(DISTINCT xmin::text, ',') FROM signer_nonces").await;
    let kept = format!(
        "count(*) FROM signer_nonces WHERE xmin::text = ANY (string_to_array('{writers}', ','))"
    );
    let there = road.gate.number(&kept).await;
    assert_eq!(there, if step == Step::Chunk { 20_000 } else { 50_000 });
    let part = "it is being filled by the transfer from";
    assert_failed(&road.to.run(&["serve"]).await, 4, &[part, &road.place_of_source()]);

    let told = road.run().await.success();
    assert!(told.contains("are the same there"), "{told}");
    assert_eq!(road.gate.number(&kept).await, there, "what was there is not written again");
    road.assert_moved().await;
}

/// The server has the order to commit, and carries it out.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_commit_was_sent_everything_is_there() {
    let road = Road::with(Sqlite, Step::Commit).await;
    road.kill().await;
    road.open().await;
    road.settle().await;
    let told = road.run().await.success();
    assert!(told.contains("an earlier run has moved everything"), "{told}");
    road.assert_moved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_database_is_of_no_use_to_any_command() {
    let road = Road::with(Sqlite, Step::Chunk).await;
    let (_, archive) = crate::backup::place(&road.from, "one.tar.zst");
    road.from.run(&["backup", "--output", &archive]).await.success();
    road.kill().await;
    road.open().await;
    road.settle().await;
    let (source, part) = (road.place_of_source(), road.to.url());
    let elsewhere = Home::on(Sqlite).await.url();
    let (_, output) = crate::backup::place(&road.to, "two.tar.zst");
    let words = ["is being filled by the transfer from", &source, "which goes on"];
    for command in [
        &["serve"][..],
        &["migrate", "up"],
        &["migrate", "status"],
        &["migrate", "down", "--yes"],
        &["backup", "--output", &output],
        &["restore", &archive, "--yes", "--tokens", "keep"],
        &["recover", "--yes"],
        &["recover", "--nothing-lost", "--yes"],
        &["records", "export", "--did", "did:a:b", "--out", &output],
        &["stats"],
        &["instances"],
        &["purge"],
        &["audit", "list"],
        &["token", "list"],
        &["token", "create", "--name", "two", "--scope", "admin"],
        &["seed"],
        &["transfer", "--from", &part, "--to", &elsewhere, "--yes"],
    ] {
        assert_failed(&road.to.run(command).await, 4, &words);
    }
    let doctor = road.to.run(&["doctor"]).await;
    assert!(doctor.code() == 1 && doctor.stdout.contains(words[0]), "{doctor:?}");
    assert_eq!(road.gate.number("count(*) FROM api_tokens").await, 0);
    road.run().await.success();
    road.assert_moved().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn called_off_it_begins_anew(#[values(Sqlite, Postgres)] from: Database) {
    let mut road = Road::with(from, Step::Chunk).await;
    road.kill().await;
    road.open().await;
    road.settle().await;
    let source = road.from.url();
    road.from.run(&["transfer", "--from", &source, "--cancel"]).await.success();
    road.from.run(&["token", "create", "--name", "new", "--scope", "admin"]).await.success();
    let change = format!("DELETE FROM {}", road.from.raw().await.session_nonces());
    road.from.raw().await.execute(&change).await;
    road.before = held(&road.from).await;
    assert_failed(&road.to.run(&["serve"]).await, 4, &["is being filled by the transfer from"]);
    let told = json(
        road.from
            .run(&["transfer", "--from", &source, "--to", &road.to.url(), "--yes", "--json"])
            .await,
    );
    assert!(told["rows"].as_u64().unwrap() > 50_000, "{told}");
    assert_eq!(road.gate.number("count(*) FROM nonces").await, 0);
    road.assert_moved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_from_the_target_the_source_takes_changes_again() {
    let road = Road::with(Sqlite, Step::Chunk).await;
    let proxy = ChaosProxy::in_front_of(&road.to.url()).await;
    let mut command = road.command();
    command[4] = proxy.url(&road.to.url());
    let running = road.start(&command).await;
    proxy.cut();
    let failed = running.finished().await;
    assert_failed(&failed, 3, &["the source takes changes again"]);
    road.open().await;
    road.from.run(&["token", "create", "--name", "new", "--scope", "admin"]).await.success();
    assert_failed(&road.to.run(&["serve"]).await, 4, &["is being filled by the transfer from"]);
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    road.from.run(&command).await.success();
    road.assert_moved().await;
    settled(&road.to, Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_at_once_only_one_fills_the_target() {
    let road = Road::with(Postgres, Step::Chunk).await;
    let first = road.start(&road.command()).await;
    assert_failed(&road.run().await, 4, &["another `onceguard transfer` goes to this database"]);
    road.open().await;
    let told = first.finished().await.success();
    assert!(told.contains("are the same there"), "{told}");
    road.assert_moved().await;
}
