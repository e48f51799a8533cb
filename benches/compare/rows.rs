//! The table's rows: which contender does what, how durably, over how many connections.

use crate::Result;
use crate::bench::{Bench, Sample};
use crate::onceguard::On::{self, Postgres, Sqlite};
use crate::redis::Persistence;
use crate::{bare, naive, onceguard, pgbench, records, redis};

/// One run, over this many connections.
type Run = Box<dyn Fn(&Bench, usize) -> Result<Sample>>;

/// A load on one contender.
pub struct Row {
    pub section: Section,
    pub id: String,
    pub connections: usize,
    pub what: String,
    /// Whether the data is on disk before the answer.
    pub durability: &'static str,
    pub run: Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Claims,
    Batches,
    Reads,
    Sessions,
    Records,
}

impl Section {
    pub const ALL: [Self; 5] =
        [Self::Claims, Self::Batches, Self::Reads, Self::Sessions, Self::Records];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Claims => {
                "Claims of a fresh random nonce in one of 64 sessions, one in a request"
            }
            Self::Batches => "The same, 256 in a request, or a pipeline of commands",
            Self::Reads => "Reads",
            Self::Sessions => "Sessions opened and ended, by turns",
            Self::Records => "Sealed records",
        }
    }
}

const NOTHING: &str = "stores nothing";
const ONLY_READS: &str = "only reads";
const POSTGRES_WAL: &str = "durable: WAL flushed before the answer";
const AOF_ALWAYS: &str = "durable: AOF, fsync before the answer";

/// Requests of 256 claims, in as few connections as keep the service busy.
const BATCH_CONNECTIONS: usize = 8;
/// Pages of lists are long.
const LIST_CONNECTIONS: usize = 8;
/// Commands that a client of Redis sends at once, where they come in batches.
const PIPELINE: usize = 16;

const fn name(on: On) -> (&'static str, &'static str) {
    match on {
        Postgres => ("postgresql", "PostgreSQL"),
        Sqlite => ("sqlite", "SQLite"),
    }
}

const fn durability(on: On) -> &'static str {
    match on {
        Postgres => POSTGRES_WAL,
        Sqlite => "durable: WAL, synchronous = FULL",
    }
}

#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn add(
        &mut self,
        section: Section,
        (id, connections): (&str, usize),
        what: &str,
        durability: &'static str,
        run: impl Fn(&Bench, usize) -> Result<Sample> + 'static,
    ) {
        let (id, what, run) = (format!("{id}/{connections}"), what.to_owned(), Box::new(run));
        self.0.push(Row { section, id, connections, what, durability, run });
    }
}

/// Every row, in the order in which they run.
pub fn all() -> Vec<Row> {
    let mut rows = Rows::default();
    for connections in [64, 256] {
        claims(&mut rows, connections);
    }
    // More would need more connections than the throw-away server takes.
    let what = "pgbench, single-row INSERT … ON CONFLICT, founding schema, no HTTP";
    rows.add(Section::Claims, ("claims/pgbench", 64), what, POSTGRES_WAL, pgbench::claims);
    let what = "onceguard on PostgreSQL, with the default log: a line per request, in a file";
    let at = ("claims/onceguard-postgresql-logged", 64);
    rows.add(Section::Claims, at, what, POSTGRES_WAL, |b, n| {
        onceguard::logged_claims(b, Postgres, n)
    });
    for on in [Postgres, Sqlite] {
        let (id, name) = name(on);
        let at = (&*format!("batches/onceguard-{id}"), BATCH_CONNECTIONS);
        let what = format!("onceguard on {name}");
        rows.add(Section::Batches, at, &what, durability(on), move |bench, n| {
            onceguard::batches(bench, on, n)
        });
    }
    let what = "Redis SET NX EX, appendfsync always, pipelines of 16";
    rows.add(Section::Batches, ("batches/redis-always", 64), what, AOF_ALWAYS, |b, n| {
        redis::claims(b, n, Persistence::Always, PIPELINE)
    });
    let what = "bare actix-web, JSON out: the HTTP ceiling";
    rows.add(Section::Reads, ("reads/bare", 64), what, NOTHING, bare::get_did);
    let what = "onceguard, a DID in the cache";
    rows.add(Section::Reads, ("reads/did", 64), what, ONLY_READS, |b, n| {
        onceguard::cached_did(b, Sqlite, n)
    });
    for on in [Postgres, Sqlite] {
        let (id, name) = name(on);
        let what = format!("onceguard, a session on {name}");
        rows.add(
            Section::Reads,
            (&format!("reads/session-{id}"), 64),
            &what,
            ONLY_READS,
            move |b, n| onceguard::session_reads(b, on, n),
        );
        let what = format!("onceguard on {name}");
        let at = (&*format!("sessions/onceguard-{id}"), 64);
        rows.add(Section::Sessions, at, &what, durability(on), move |b, n| {
            onceguard::session_turns(b, on, n)
        });
    }
    sealed_records(&mut rows);
    rows.0
}

fn sealed_records(rows: &mut Rows) {
    let mut add = |id: &str, connections, what: &str, durability, run: Run| {
        rows.add(Section::Records, (&format!("records/{id}"), connections), what, durability, run);
    };
    for on in [Postgres, Sqlite] {
        let (id, name) = name(on);
        let run = Box::new(move |bench: &_, n| records::puts(bench, on, n));
        let what = format!("a new record of 10 kB, onceguard on {name}");
        add(&format!("put-{id}"), 64, &what, durability(on), run);
        let run = Box::new(move |bench: &_, n| records::gets(bench, on, n));
        let what = format!("a record of 10 kB read, onceguard on {name}");
        add(&format!("get-{id}"), 64, &what, ONLY_READS, run);
        for (list, query, page) in records::LISTS {
            let run = Box::new(move |bench: &_, n| records::lists(bench, on, (list, query), n));
            let what = format!("of 100,000 records, {page}, onceguard on {name}");
            add(&format!("list-{list}-{id}"), LIST_CONNECTIONS, &what, ONLY_READS, run);
        }
        let run = Box::new(move |bench: &_, n| records::follow(bench, on, n));
        let what = format!("changes that one reader reads while 64 write, onceguard on {name}");
        add(&format!("follow-{id}"), 64, &what, durability(on), run);
    }
    let what = "a new record of 10 kB, the same transaction by pgbench, no HTTP";
    add("put-pgbench", 64, what, POSTGRES_WAL, Box::new(records::puts_by_pgbench));
    let what = "a record of 10 kB read, the same statement by pgbench, no HTTP";
    add("get-pgbench", 64, what, ONLY_READS, Box::new(records::gets_by_pgbench));
}

fn claims(rows: &mut Rows, connections: usize) {
    let mut add = |id: &str, what: &str, durability, run: Run| {
        rows.add(Section::Claims, (&format!("claims/{id}"), connections), what, durability, run);
    };
    let what = "bare actix-web, JSON in and out: the HTTP ceiling";
    add("bare", what, NOTHING, Box::new(bare::post_claims));
    for on in [Postgres, Sqlite] {
        let (id, name) = name(on);
        let run = move |bench: &_, connections| onceguard::claims(bench, on, connections);
        add(
            &format!("onceguard-{id}"),
            &format!("onceguard on {name}"),
            durability(on),
            Box::new(run),
        );
    }
    for (id, what, durability, persistence) in [
        ("none", "no persistence", "not durable: memory", Persistence::None),
        (
            "everysec",
            "appendfsync everysec",
            "not durable: fsync each second",
            Persistence::EverySecond,
        ),
        ("always", "appendfsync always", AOF_ALWAYS, Persistence::Always),
    ] {
        let run = move |bench: &_, connections| redis::claims(bench, connections, persistence, 1);
        let what = format!("Redis SET NX EX, {what}");
        add(&format!("redis-{id}"), &what, durability, Box::new(run));
    }
    let what = "naive: actix-web, one INSERT per request through bb8 (25), founding schema";
    add("naive", what, POSTGRES_WAL, Box::new(naive::claims));
}
