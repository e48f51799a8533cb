//! What the role may do with each table, compared with what statements do.

use diesel::sql_types::{Nullable, Text};
use diesel::{QueryResult, QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

/// What statements do with each table; a row lock counts as a change.
const LACKING: &str = "
    SELECT string_agg(privilege || ' on ' || name, ', ' ORDER BY name, privilege) AS lacking
    FROM (
        VALUES
            ('api_tokens', 'SELECT INSERT UPDATE'),
            ('dids', 'SELECT INSERT UPDATE DELETE'),
            ('event_chain', 'SELECT UPDATE'),
            ('event_heads', 'SELECT INSERT DELETE'),
            ('events', 'SELECT INSERT UPDATE DELETE'),
            ('history', 'SELECT UPDATE'),
            ('instances', 'SELECT INSERT UPDATE DELETE'),
            ('leases', 'SELECT INSERT UPDATE'),
            ('marks', 'SELECT INSERT UPDATE DELETE'),
            ('nonces', 'SELECT INSERT DELETE'),
            ('publications', 'SELECT INSERT UPDATE DELETE'),
            ('record_blobs', 'SELECT INSERT DELETE'),
            ('record_owners', 'SELECT INSERT UPDATE DELETE'),
            ('record_shares', 'SELECT UPDATE'),
            ('records', 'SELECT INSERT UPDATE DELETE'),
            ('sealing_keys', 'SELECT INSERT DELETE'),
            ('sessions', 'SELECT INSERT UPDATE DELETE'),
            ('signer_nonces', 'SELECT INSERT DELETE'),
            ('signers', 'SELECT INSERT UPDATE DELETE'),
            ('transfers', 'SELECT'),
            ('webhook_deliveries', 'SELECT INSERT UPDATE DELETE'),
            ('webhooks', 'SELECT INSERT UPDATE DELETE')
    ) AS tables (name, needs)
    CROSS JOIN unnest(string_to_array(needs, ' ')) AS needed (privilege)
    WHERE to_regclass(name) IS NOT NULL
        AND NOT has_table_privilege(to_regclass(name), privilege)";

#[derive(QueryableByName)]
struct Seen {
    #[diesel(sql_type = Nullable<Text>)]
    lacking: Option<String>,
}

/// The privileges that the role of this connection lacks, in words.
pub(super) async fn lacking(c: &mut AsyncPgConnection) -> QueryResult<Option<String>> {
    let seen: Seen = sql_query(LACKING).get_result(c).await?;
    Ok(seen.lacking)
}
