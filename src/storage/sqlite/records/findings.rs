//! What is wrong with sealed records. Reads all of them, but no content.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use crate::storage::records::findings::Faulty;
use crate::storage::sqlite::SqliteStore;
use crate::storage::sqlite::types::unreadable;
use crate::storage::{Finding, Result};

/// Each fault that there is, with how many rows have it and the first of them. What is left of erased
/// owners is being removed, and is no fault.
const FAULTS: &str = "
    WITH live AS (
        SELECT r.*, o.did, o.sequence AS last, o.did || ' ' || r.kind || '/' || r.id AS name
        FROM records r JOIN record_owners o ON o.id = r.owner
        WHERE o.did IS NOT NULL
    ),
    faults (fault, name) AS (
        SELECT CASE WHEN b.owner IS NULL THEN 'no_content' ELSE 'other_size' END, name
        FROM live LEFT JOIN record_blobs b ON b.owner = live.owner AND b.sequence = live.sequence
        WHERE deleted_at IS NULL AND (b.owner IS NULL OR length(ciphertext) <> size)
        UNION ALL
        SELECT 'no_record', o.did || ' sequence ' || b.sequence
        FROM record_blobs b JOIN record_owners o ON o.id = b.owner
        WHERE o.did IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM records r
            WHERE r.owner = b.owner AND r.sequence = b.sequence AND r.deleted_at IS NULL
        )
        UNION ALL
        SELECT 'data_of_deleted', name FROM live
        WHERE deleted_at IS NOT NULL
            AND (size <> 0 OR metadata <> '{}'
                OR coalesce(iv, checksum) IS NOT NULL OR coalesce(client_time, expires_at) IS NOT NULL)
        UNION ALL
        SELECT 'sequence_ahead', name FROM live WHERE sequence > last
        UNION ALL
        SELECT 'usage', o.did
        FROM record_owners o
        LEFT JOIN (
            SELECT owner, count(*) AS records, sum(size) AS bytes FROM records GROUP BY owner
        ) AS had ON had.owner = o.id
        WHERE o.did IS NOT NULL
            AND (o.records <> coalesce(had.records, 0) OR o.bytes <> coalesce(had.bytes, 0))
        UNION ALL
        SELECT 'agents', counted.records || ' records, ' || counted.bytes || ' bytes'
        FROM (SELECT sum(records) AS records, sum(bytes) AS bytes FROM record_shares) AS counted,
            (
                SELECT coalesce(sum(records), 0) AS records, coalesce(sum(bytes), 0) AS bytes
                FROM record_owners WHERE agent AND did IS NOT NULL
            ) AS had
        WHERE counted.records <> had.records OR counted.bytes <> had.bytes
    )
    SELECT fault, count(*) AS count, min(name) AS example FROM faults
    GROUP BY fault ORDER BY fault";

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    fault: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = Text)]
    example: String,
}

impl SqliteStore {
    pub async fn record_findings(&self) -> Result<Vec<Finding>> {
        self.0.read("record_findings", |conn, _| findings(conn)).await
    }
}

fn findings(conn: &mut SqliteConnection) -> QueryResult<Vec<Finding>> {
    let rows: Vec<Row> = diesel::sql_query(FAULTS).load(conn)?;
    let findings = rows.into_iter().map(|Row { fault, count, example }| {
        let faulty = Faulty { fault, count, example };
        faulty.finding().ok_or_else(|| unreadable("fault of records"))
    });
    findings.collect()
}
