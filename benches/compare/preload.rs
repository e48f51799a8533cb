//! Puts sessions and nonces into a database by SQL, many at a time, while no service uses it. The
//! result is what the service would have left: the nonces of different sessions are inserted in
//! random order, so pages are as full as after such insertions.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use uuid::Uuid;

use crate::Result;
use crate::onceguard::Home;
use crate::postgres::Database;

/// Nonces of one session, or of one signer.
pub const NONCES_EACH: usize = 100;
/// The DID that has many records, and how many.
pub const MANY_RECORDS: &str = "did:web:many.example";
const RECORDS: usize = 100_000;
/// One record in so many is a `key` with a string in its metadata.
const RARE: usize = 1000;
/// The most nonces in one transaction.
const CHUNK: usize = 1_000_000;

/// The kinds of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sessions that live for a day.
    Live,
    /// Sessions that ended eight days ago: a day past the retention.
    Ended,
    /// Signers' nonces that expired one after the other, more than an hour ago.
    ExpiredOfSigners,
}

impl Kind {
    /// What its nonces are in the purge's metric.
    pub const fn rows(self) -> &'static str {
        match self {
            Self::Live | Self::Ended => "session_nonces",
            Self::ExpiredOfSigners => "signer_nonces",
        }
    }
}

pub enum Data<'h> {
    Postgres(&'h Database<'h>),
    Sqlite(SqliteConnection),
}

impl<'h> Data<'h> {
    pub fn of(home: &'h Home<'_>) -> Result<Self> {
        if let Some(database) = &home.database {
            return Ok(Self::Postgres(database));
        }
        let file = home.folder.path().join("onceguard.db");
        let mut connection = SqliteConnection::establish(&file.to_string_lossy())?;
        connection.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA cache_size = -262144")?;
        Ok(Self::Sqlite(connection))
    }

    fn run(&mut self, sql: &str) -> Result<()> {
        match self {
            Self::Postgres(database) => database.run(sql),
            Self::Sqlite(connection) => Ok(connection.batch_execute(sql)?),
        }
    }

    /// One number.
    fn number(&mut self, sql: &str) -> Result<f64> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Double)]
            value: f64,
        }
        match self {
            Self::Postgres(database) => Ok(database.value(sql)?.parse()?),
            Self::Sqlite(connection) => {
                Ok(diesel::sql_query(sql).get_result::<Row>(connection)?.value)
            }
        }
    }

    /// Adds this many nonces. Returns the ids of the sessions or signers.
    pub fn add(&mut self, kind: Kind, nonces: usize) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for first in (0..nonces).step_by(CHUNK) {
            let count = CHUNK.min(nonces - first).div_ceil(NONCES_EACH);
            let chunk: Vec<_> = (0..count).map(|_| Uuid::now_v7()).collect();
            let sql = match self {
                Self::Postgres(_) => postgres(kind, &chunk),
                Self::Sqlite(_) => sqlite(kind, &chunk),
            };
            self.run(&sql)?;
            ids.extend(chunk.iter().map(Uuid::to_string));
        }
        Ok(ids)
    }

    /// Adds an owner with many records.
    pub fn add_records(&mut self) -> Result<()> {
        let sql = match self {
            Self::Postgres(_) => postgres_records(),
            Self::Sqlite(_) => sqlite_records(),
        };
        self.run(&sql)
    }

    /// Ends the preloading, right before the service starts. Work that the database would otherwise
    /// do later is done now, so that it does not disturb the measurement.
    ///
    /// The live sessions are left as in use all the time: activity is written down once a minute,
    /// and by the next claim after it, so here as long ago as that, or not so long.
    pub fn settle(mut self) -> Result<()> {
        let steps: &[&str] = match self {
            Self::Postgres(_) => &[
                "VACUUM ANALYZE",
                "CHECKPOINT",
                "UPDATE sessions SET last_activity = now() - random() * interval '75 seconds'
                 WHERE ended_at IS NULL",
                "VACUUM sessions",
                "CHECKPOINT",
            ],
            Self::Sqlite(_) => &[
                "PRAGMA wal_checkpoint(TRUNCATE)",
                "UPDATE sessions
                 SET last_activity = unixepoch() * 1000000 - abs(random() % 75000000)
                 WHERE ended_at IS NULL",
                "PRAGMA wal_checkpoint(TRUNCATE)",
            ],
        };
        steps.iter().try_for_each(|sql| self.run(sql))
    }

    /// Bytes of a session's nonce: in the table, and in its indexes.
    pub fn bytes_per_nonce(&mut self, nonces: usize) -> Result<[f64; 2]> {
        let (table, indexes) = match self {
            Self::Postgres(_) => (
                self.number("SELECT pg_table_size('nonces')")?,
                self.number("SELECT pg_indexes_size('nonces')")?,
            ),
            // The table is its own index.
            Self::Sqlite(_) => (
                self.number(
                    "SELECT CAST(pgsize AS REAL) AS value FROM dbstat
                     WHERE name = 'session_nonces' AND aggregate = TRUE",
                )?,
                0.0,
            ),
        };
        Ok([table, indexes].map(|bytes| bytes / nonces as f64))
    }
}

fn postgres_records() -> String {
    format!(
        r#"INSERT INTO record_owners (did, agent, sequence, records, bytes, last_accessed)
          VALUES ('{MANY_RECORDS}', false, {RECORDS}, {RECORDS}, {RECORDS} * 100, now());
          INSERT INTO record_blobs (owner, sequence, ciphertext)
          SELECT id, n, decode(repeat('a5', 100), 'hex')
          FROM record_owners, generate_series(1, {RECORDS}) AS n;
          INSERT INTO records (owner, kind, id, sequence, version, tag, size, iv, checksum, metadata,
              created_at, updated_at)
          SELECT id, CASE n % {RARE} WHEN 0 THEN 'key' ELSE 'sync' END, 'r' || n, n, 1,
              '\x0011223344556677', 100, decode(repeat('03', 12), 'hex'),
              decode(repeat('a5', 32), 'hex'),
              CASE n % {RARE} WHEN 0 THEN '{{"device":"a"}}' ELSE '{{"device":"b"}}' END::jsonb,
              now(), now()
          FROM record_owners, generate_series(1, {RECORDS}) AS n"#
    )
}

fn sqlite_records() -> String {
    format!(
        r#"BEGIN;
          INSERT INTO record_owners (id, did, agent, sequence, records, bytes, last_accessed)
          VALUES (randomblob(16), '{MANY_RECORDS}', 0, {RECORDS}, {RECORDS}, {RECORDS} * 100,
              unixepoch() * 1000000);
          CREATE TEMP TABLE n (n INTEGER PRIMARY KEY);
          WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {RECORDS})
          INSERT INTO n SELECT n FROM c;
          INSERT INTO record_blobs (owner, sequence, ciphertext)
          SELECT id, n, zeroblob(100) FROM record_owners, n;
          INSERT INTO records (owner, kind, id, sequence, version, tag, size, iv, checksum, metadata,
              created_at, updated_at)
          SELECT id, iif(n % {RARE} = 0, 'key', 'sync'), 'r' || n, n, 1, zeroblob(8), 100,
              zeroblob(12), zeroblob(32), iif(n % {RARE} = 0, '{{"device":"a"}}', '{{"device":"b"}}'),
              unixepoch() * 1000000, unixepoch() * 1000000
          FROM record_owners, n;
          DROP TABLE n; COMMIT"#
    )
}

fn postgres(kind: Kind, ids: &[Uuid]) -> String {
    let ids: Vec<_> = ids.iter().map(Uuid::to_string).collect();
    let ids = format!("unnest('{{{}}}'::uuid[]) AS id", ids.join(","));
    let nonces = format!("generate_series(1, {NONCES_EACH})");
    let nonce = "translate(left(encode(uuid_send(gen_random_uuid()), 'base64'), 22), '+/', '-_')";
    // The foreign key is true anyway.
    let begin = "BEGIN; SET LOCAL synchronous_commit = off;
        SET LOCAL session_replication_role = replica;";
    match kind {
        Kind::Live => format!(
            "{begin}
             INSERT INTO sessions (id, client_did, server_did, created_at, expires_at, deadline,
                 last_activity)
             SELECT id, 'did:web:a.example', 'did:web:b.example', now(), now() + interval '1 day',
                 now() + interval '1 day', now() FROM {ids};
             INSERT INTO nonces (session_id, nonce, used_at, expires_at)
             SELECT id, {nonce}, now(), now() + interval '1 day' FROM {nonces}, {ids}
             ORDER BY random();
             COMMIT"
        ),
        Kind::Ended => format!(
            "{begin}
             INSERT INTO sessions (id, client_did, server_did, created_at, expires_at, deadline,
                 last_activity, ended_at, end_reason)
             SELECT id, 'did:web:a.example', 'did:web:b.example', now() - interval '9 days',
                 now() - interval '8 days', now() - interval '8 days', now() - interval '9 days',
                 now() - interval '8 days', 'expired' FROM {ids};
             INSERT INTO nonces (session_id, nonce, used_at, expires_at)
             SELECT id, {nonce}, now() - interval '9 days', now() - interval '8 days'
             FROM {nonces}, {ids} ORDER BY random();
             COMMIT"
        ),
        Kind::ExpiredOfSigners => format!(
            "{begin}
             INSERT INTO signers (signer, did, live)
             SELECT uuid_send(id), 'did:web:' || id, {NONCES_EACH} FROM {ids};
             INSERT INTO signer_nonces (signer, nonce, used_at, expires_at)
             SELECT uuid_send(id), {nonce}, now() - interval '3 hours',
                 now() - interval '2 hours' + row_number() OVER () * interval '1 millisecond'
             FROM {nonces}, {ids};
             COMMIT"
        ),
    }
}

fn sqlite(kind: Kind, ids: &[Uuid]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| format!("(x'{}')", id.simple())).collect();
    let nonces = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {NONCES_EACH})"
    );
    let now = "unixepoch() * 1000000";
    let days = |days: i64| format!("{now} + {}", days * 86_400_000_000);
    let minutes = |minutes: i64| format!("{now} + {}", minutes * 60_000_000);
    let begin = format!(
        "BEGIN; CREATE TEMP TABLE chunk (id BLOB); INSERT INTO chunk VALUES {};",
        ids.join(",")
    );
    let end = "DROP TABLE chunk; COMMIT";
    let sessions = |created: String, over: String, ended: &str| {
        format!(
            "{begin}
             INSERT INTO sessions (id, client_did, server_did, created_at, expires_at, deadline,
                 last_activity, ended_at, end_reason)
             SELECT id, 'did:web:a.example', 'did:web:b.example', {created}, {over}, {over},
                 {created}, {ended} FROM chunk;
             INSERT INTO session_nonces (session, nonce, used_at)
             {nonces} SELECT number, lower(hex(randomblob(11))), {created}
             FROM n, chunk JOIN sessions USING (id) ORDER BY random();
             {end}"
        )
    };
    match kind {
        Kind::Live => sessions(days(0), days(1), "NULL, NULL"),
        Kind::Ended => sessions(days(-9), days(-8), &format!("{}, 'expired'", days(-8))),
        Kind::ExpiredOfSigners => format!(
            "{begin}
             INSERT INTO signers (signer, did, live)
             SELECT id, 'did:web:' || lower(hex(id)), {NONCES_EACH} FROM chunk;
             INSERT INTO signer_nonces (signer, nonce, used_at, expires_at)
             {nonces} SELECT id, lower(hex(randomblob(11))), {}, {} + row_number() OVER () * 1000
             FROM n, chunk;
             {end}",
            minutes(-180),
            minutes(-120)
        ),
    }
}
