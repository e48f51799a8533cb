//! Sealed records: written and read over HTTP, and in the same transactions by pgbench; lists beside
//! many records; a reader that follows an owner while others write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::Result;
use crate::bench::{Bench, Sample};
use crate::load::{Load, Pace, Running};
use crate::onceguard::{Home, On, Service};
use crate::preload::{Data, MANY_RECORDS};
use crate::wire::{self, HttpClient, ID, NONCE};
use crate::{load, pgbench};

const OWNERS: usize = 64;
/// Bytes of a ciphertext.
const SIZE: usize = 10_000;
/// The same, where a reader follows.
const SMALL: usize = 100;
/// Records of a page.
const PAGE: usize = 100;

/// What is listed of an owner with 100,000 records, by the rest of the query.
pub const LISTS: [(&str, &str, &str); 4] = [
    ("first", "", "the first page"),
    ("middle", "", "the page after 50,000 records"),
    ("kind", "&kind=key", "the 100 of one kind"),
    ("metadata", "&metadata.device=a", "the 100 with one string in their metadata"),
];

/// A record as a client sends it.
fn sealed(size: usize) -> String {
    let (iv, ciphertext) = ([3; 12], vec![0xa5; size]);
    let checksum = Sha256::new().chain_update(iv).chain_update(&ciphertext).finalize();
    let checksum = base16ct::lower::encode_string(&checksum);
    let (iv, ciphertext) = (STANDARD.encode(iv), STANDARD.encode(ciphertext));
    format!(r#"{{"iv":"{iv}","ciphertext":"{ciphertext}","checksum":"{checksum}"}}"#)
}

fn path(owner: &str, id: &str) -> String {
    format!("/v1/records/did:web:{owner}.example/sync/{id}")
}

fn put(owner: &str, id: &str, size: usize) -> String {
    wire::http_with("PUT", &path(owner, id), "If-None-Match: *\r\n", &sealed(size))
}

fn owners() -> Arc<[String]> {
    (0..OWNERS).map(|_| uuid::Uuid::new_v4().to_string()).collect()
}

fn home(bench: &Bench, on: On) -> Result<Home<'_>> {
    let home = Home::new(bench, on)?;
    Ok(home
        .set("ONCEGUARD_RECORDS__MAX_RECORDS", "1000000000")
        .set("ONCEGUARD_RECORDS__MAX_BYTES", "1000000000000"))
}

/// A database with an owner of many records. In tables that were empty when it looked last, PostgreSQL
/// plans to read all records of an owner for each write, until its autovacuum comes.
fn beside_many(bench: &Bench, on: On) -> Result<Home<'_>> {
    let home = home(bench, on)?;
    // Makes the tables.
    home.start()?.stop()?;
    let mut data = Data::of(&home)?;
    data.add_records()?;
    data.settle()?;
    Ok(home)
}

/// Each request writes a new record of one of the owners.
pub fn puts(bench: &Bench, on: On, connections: usize) -> Result<Sample> {
    let home = beside_many(bench, on)?;
    let service = home.start()?;
    let (request, owners) = (put(ID, NONCE, SIZE), owners());
    let client = || HttpClient::boxed(&request, &owners, 201, 0);
    service.subject().measure(bench, connections, 1, &client)
}

/// Each request reads the record of one of the owners.
pub fn gets(bench: &Bench, on: On, connections: usize) -> Result<Sample> {
    let home = home(bench, on)?;
    let service = home.start()?;
    let owners = owners();
    for owner in &*owners {
        wire::call(service.api, &put(owner, "r", SIZE), 201)?;
    }
    let request = wire::http("GET", &path(ID, "r"), "");
    let client = || HttpClient::boxed(&request, &owners, 200, 0);
    service.subject().measure(bench, connections, 1, &client)
}

/// What one record is to the database: a locked owner, a look at what is there, and one statement. The
/// colons of a DID are escaped: pgbench takes `:web` for a variable, in strings, too.
const PUT: &str = r"
\set o random(1, 64)
\set a random(1000000000000000000, 9000000000000000000)
BEGIN;
SELECT id AS held, sequence + 1 AS next FROM record_owners
    WHERE did = E'did\x3aweb\x3aowner-' || :o::text || '.example' FOR NO KEY UPDATE \gset
SELECT clock_timestamp(), EXISTS (SELECT FROM dids WHERE did = E'did\x3aweb\x3aowner-' || :o::text AND revoked),
    r.sequence, r.version, r.tag, r.size, r.created_at
    FROM (SELECT 'r-' || :a::text AS id) AS k
    LEFT JOIN records r ON r.owner = :held::uuid AND r.kind = 'sync' AND r.id = k.id;
WITH owner AS (
    UPDATE record_owners SET sequence = :next::bigint, records = records + 1, bytes = bytes + 10000,
        last_accessed = now() WHERE id = :held::uuid
), blob AS (
    INSERT INTO record_blobs (owner, sequence, ciphertext)
    VALUES (:held::uuid, :next::bigint, decode(:content::text, 'hex'))
)
INSERT INTO records (owner, kind, id, sequence, version, tag, size, iv, checksum, created_at, updated_at)
VALUES (:held::uuid, 'sync', 'r-' || :a::text, :next::bigint, 1, '\x0011223344556677', 10000,
    decode(repeat('03', 12), 'hex'), decode(repeat('a5', 32), 'hex'), now(), now())
ON CONFLICT (owner, kind, id) DO UPDATE SET sequence = excluded.sequence;
COMMIT;
";

const GET: &str = r"
\set o random(1, 64)
SELECT o.last_accessed, r.*, b.ciphertext FROM record_owners o
    JOIN records r ON r.owner = o.id AND r.kind = 'sync' AND r.id = 'r'
    LEFT JOIN record_blobs b ON b.owner = r.owner AND b.sequence = r.sequence
    WHERE o.did = E'did\x3aweb\x3aowner-' || :o::text || '.example' AND r.deleted_at IS NULL
        AND (r.expires_at IS NULL OR r.expires_at > now());
";

/// The owners of [`PUT`] and [`GET`], each with one record.
const PREPARE: &str = r"
    INSERT INTO record_owners (did, agent, sequence, records, bytes, last_accessed)
    SELECT 'did:web:owner-' || n || '.example', false, 1, 1, 10000, now()
    FROM generate_series(1, 64) AS n;
    INSERT INTO record_blobs (owner, sequence, ciphertext)
    SELECT id, 1, decode(repeat('a5', 10000), 'hex') FROM record_owners WHERE sequence = 1;
    INSERT INTO records (owner, kind, id, sequence, version, tag, size, iv, checksum, created_at,
        updated_at)
    SELECT id, 'sync', 'r', 1, 1, '\x0011223344556677', 10000, decode(repeat('03', 12), 'hex'),
        decode(repeat('a5', 32), 'hex'), now(), now() FROM record_owners WHERE sequence = 1";

pub fn puts_by_pgbench(bench: &Bench, connections: usize) -> Result<Sample> {
    by_pgbench(bench, PUT, &[("content", &"a5".repeat(SIZE))], connections)
}

pub fn gets_by_pgbench(bench: &Bench, connections: usize) -> Result<Sample> {
    by_pgbench(bench, GET, &[], connections)
}

fn by_pgbench(
    bench: &Bench,
    script: &str,
    variables: &[(&str, &str)],
    connections: usize,
) -> Result<Sample> {
    let home = beside_many(bench, On::Postgres)?;
    let database = home.database.as_ref().ok_or("no PostgreSQL")?;
    database.run(PREPARE)?;
    pgbench::run(bench, database, script, variables, connections)
}

/// Pages of an owner with many records, without what they hold.
pub fn lists(
    bench: &Bench,
    on: On,
    (list, query): (&str, &str),
    connections: usize,
) -> Result<Sample> {
    let home = beside_many(bench, on)?;
    let service = home.start()?;
    let mut path = format!("/v1/records/{MANY_RECORDS}?fields=meta&limit={PAGE}{query}");
    if list == "middle" {
        let (mut cursor, _) =
            page(&service, &format!("/v1/records/{MANY_RECORDS}?fields=meta&limit=500"))?;
        for _ in 1..100 {
            let next = format!("/v1/records/{MANY_RECORDS}?fields=meta&limit=500&since={cursor}");
            (cursor, _) = page(&service, &next)?;
        }
        path = format!("{path}&since={cursor}");
    }
    let (_, count) = page(&service, &path)?;
    if count != PAGE {
        return Err(format!("{path} has {count} records").into());
    }
    let request = wire::http("GET", &path, "");
    let client = || HttpClient::boxed(&request, &Arc::default(), 200, 0);
    service.subject().measure(bench, connections, 1, &client)
}

/// A page's cursor, and how many records are in it.
fn page(service: &Service<'_>, path: &str) -> Result<(String, usize)> {
    let body = wire::call(service.api, &wire::http("GET", path, ""), 200)?;
    let page: Value = serde_json::from_slice(&body)?;
    let cursor = page["next_cursor"].as_str().ok_or("a page without a cursor")?;
    let items = page["items"].as_array().ok_or("a page without items")?;
    Ok((cursor.to_owned(), items.len()))
}

/// A reader follows one owner, while all connections write records of it. The rate is of the changes
/// that it reads, the times are of its pages. It must not miss any.
pub fn follow(bench: &Bench, on: On, connections: usize) -> Result<Sample> {
    let home = home(bench, on)?;
    let service = home.start()?;
    let request = put("followed", NONCE, SMALL);
    let client = || HttpClient::boxed(&request, &Arc::default(), 201, 0);
    let load = Load { address: service.api, connections, pace: Pace::Closed, client: &client };
    let running = Running::start(&load)?;
    let stop = AtomicBool::new(false);
    let list = "/v1/records/did:web:followed.example?fields=meta&limit=500";
    let (mut cursor, mut read, latencies, elapsed) = std::thread::scope(|scope| {
        let following = scope.spawn(|| -> Result<_> {
            let (mut cursor, mut read) = page(&service, list)?;
            let mut latencies = load::histogram();
            let began = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let (next, count) = page(&service, &format!("{list}&since={cursor}"))?;
                latencies.saturating_record(u64::try_from(asked.elapsed().as_nanos())?);
                (cursor, read) = (next, read + count);
            }
            Ok((cursor, read, latencies, began.elapsed()))
        });
        std::thread::sleep(Duration::from_secs(1) + bench.measured);
        stop.store(true, Ordering::Relaxed);
        following.join().map_err(|_| "the reader panicked")?
    })?;
    let per_second = read as f64 / elapsed.as_secs_f64();
    running.finish()?;
    // Writes whose connections were closed may still come.
    let mut usage = self::usage(&service)?;
    loop {
        let (next, count) = page(&service, &format!("{list}&since={cursor}"))?;
        (cursor, read) = (next, read + count);
        let now = self::usage(&service)?;
        if count == 0 && now == usage {
            break;
        }
        usage = now;
    }
    if usage != read as u64 {
        return Err(format!("the reader saw {read} changes, but there are {usage} records").into());
    }
    Ok(sample(per_second, &latencies))
}

/// The records of the owner that is followed.
fn usage(service: &Service<'_>) -> Result<u64> {
    let request = wire::http("GET", "/v1/records/did:web:followed.example/usage", "");
    let usage: Value = serde_json::from_slice(&wire::call(service.api, &request, 200)?)?;
    usage["records"].as_u64().ok_or_else(|| "a usage without records".into())
}

fn sample(per_second: f64, latencies: &Histogram<u64>) -> Sample {
    let quantile = |part| latencies.value_at_quantile(part) as f64 / 1e6;
    Sample {
        per_second,
        p50: quantile(0.5),
        p99: quantile(0.99),
        server_cpu: None,
        database_cpu: None,
        client_cpu: None,
        memory: None,
    }
}
