//! Row-level security: a role that only reads sees the rows of one DID. Policies are for such roles.
//! The service's own role must bypass them: every connection of the service has `row_security = off`,
//! which makes a statement that a policy would filter fail.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Nullable, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::PostgresStore;
use super::restore::{Failure, LOCK_TIMEOUT};
use crate::storage::{Finding, Result, StoreError};

/// The DID whose rows are seen. Unset it is NULL, and after a transaction that set it, empty.
macro_rules! did {
    () => {
        "nullif(current_setting('onceguard.did', true), '')"
    };
}

/// A table, which of its rows are a DID's, and the columns that are not shown.
struct Secured {
    table: &'static str,
    own: &'static str,
    hidden: &'static str,
}

const fn secured(table: &'static str, own: &'static str) -> Secured {
    Secured { table, own, hidden: "" }
}

/// Every table with rows of a DID. What names a row of another table is seen where that row is.
const SECURED: [Secured; 9] = [
    secured("dids", concat!("did = ", did!())),
    Secured {
        table: "sessions",
        own: concat!(did!(), " IN (client_did, server_did)"),
        hidden: "session_key",
    },
    secured("nonces", "session_id IN (SELECT id FROM sessions)"),
    secured("signers", concat!("did = ", did!())),
    secured("signer_nonces", "signer IN (SELECT signer FROM signers)"),
    secured("record_owners", concat!("did = ", did!())),
    secured("records", "owner IN (SELECT id FROM record_owners)"),
    secured("record_blobs", "owner IN (SELECT id FROM record_owners)"),
    secured("events", concat!(did!(), " IN (subject, actor)")),
];

/// The name of every policy.
const POLICY: &str = "rows_of_a_did";

const ROLE: &str = "
    SELECT
        (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user) AS bypasses,
        current_user::text AS service,
        quote_ident($1) AS reader,
        quote_ident(current_schema()) AS schema,
        (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) AS may_create,
        (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = $1) AS reader_bypasses,
        coalesce((
            SELECT pg_has_role(oid, current_user, 'MEMBER') FROM pg_roles WHERE rolname = $1
        ), false) AS reader_serves,
        (
            SELECT string_agg(relname, ', ' ORDER BY relname) FROM pg_class
            WHERE oid = ANY (SELECT to_regclass(name) FROM unnest($2) AS secured (name))
                AND NOT pg_has_role(relowner, 'USAGE')
        ) AS of_others";

const COLUMNS: &str = "
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS names FROM pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attname <> $2";

/// The roles that the policies are for.
const READERS: &str = "
    SELECT DISTINCT quote_ident(rolname) AS name, quote_ident(current_schema()) AS schema
    FROM pg_policy
    JOIN pg_roles ON pg_roles.oid = ANY (polroles)
    WHERE polname = $1 AND polrelid = ANY (
        SELECT to_regclass(name) FROM unnest($2) AS secured (name)
    )
    ORDER BY name";

/// `active`: tables of the service whose rows a policy would hide from this role. `open`: tables that
/// should be secured, as others are, and are not. `others`: policies that are not ours.
const LOOK: &str = "
    WITH secured AS MATERIALIZED (
        SELECT c.oid, c.relname::text AS name, c.relrowsecurity AND c.relforcerowsecurity
            AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = $1)
            AS whole
        FROM pg_class c
        WHERE c.oid = ANY (SELECT to_regclass(name) FROM unnest($2) AS secured (name))
    )
    SELECT
        current_user::text AS service,
        (
            SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c
            WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'p')
                AND c.relrowsecurity AND row_security_active(c.oid)
        ) AS active,
        (
            SELECT string_agg(name, ', ' ORDER BY name) FROM secured
            WHERE NOT whole AND EXISTS (
                SELECT FROM pg_policy p WHERE p.polname = $1
                    AND p.polrelid = ANY (SELECT oid FROM secured)
            )
        ) AS open,
        (
            SELECT string_agg(format('%s on %s', polname, name), ', ' ORDER BY name, polname)
            FROM pg_policy JOIN secured ON secured.oid = polrelid WHERE polname <> $1
        ) AS others";

#[derive(QueryableByName)]
struct Roles {
    #[diesel(sql_type = Bool)]
    bypasses: bool,
    #[diesel(sql_type = Text)]
    service: String,
    #[diesel(sql_type = Text)]
    reader: String,
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Bool)]
    may_create: bool,
    /// NULL when there is no such role.
    #[diesel(sql_type = Nullable<Bool>)]
    reader_bypasses: Option<bool>,
    #[diesel(sql_type = Bool)]
    reader_serves: bool,
    #[diesel(sql_type = Nullable<Text>)]
    of_others: Option<String>,
}

#[derive(QueryableByName)]
struct Columns {
    #[diesel(sql_type = Text)]
    names: String,
}

#[derive(QueryableByName)]
struct Reader {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    schema: String,
}

#[derive(QueryableByName)]
struct Seen {
    #[diesel(sql_type = Text)]
    service: String,
    #[diesel(sql_type = Nullable<Text>)]
    active: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    open: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    others: Option<String>,
}

impl PostgresStore {
    pub async fn secure_rows(&self, reader: &str) -> Result<()> {
        let mut connection = self.general.connect_to_change().await?;
        connection.transaction(async |c| secure(c, reader).await).await.map_err(Failure::into_error)
    }

    pub async fn open_rows(&self) -> Result<Vec<String>> {
        let mut connection = self.general.connect_to_change().await?;
        let take = async |c: &mut AsyncPgConnection| {
            c.batch_execute(LOCK_TIMEOUT).await?;
            take_away(c).await.map_err(Failure::from)
        };
        connection.transaction(take).await.map_err(Failure::into_error)
    }
}

async fn secure(c: &mut AsyncPgConnection, reader: &str) -> std::result::Result<(), Failure> {
    let tables = SECURED.map(|secured| secured.table).to_vec();
    let roles = sql_query(ROLE).bind::<Text, _>(reader).bind::<Array<Text>, _>(tables);
    let roles: Roles = roles.get_result(c).await?;
    if let Some(why) = unfit(&roles) {
        return Err(Failure::Store(StoreError::Unsuitable(why)));
    }
    c.batch_execute(LOCK_TIMEOUT).await?;
    take_away(c).await?;
    let Roles { reader, schema, .. } = roles;
    if roles.reader_bypasses.is_none() {
        c.batch_execute(&format!("CREATE ROLE {reader} NOLOGIN")).await?;
    }
    c.batch_execute(&format!("GRANT USAGE ON SCHEMA {schema} TO {reader}")).await?;
    for Secured { table, own, hidden } in SECURED {
        let columns = sql_query(COLUMNS).bind::<Text, _>(table).bind::<Text, _>(hidden);
        let Columns { names } = columns.get_result(c).await?;
        c.batch_execute(&format!(
            "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY {POLICY} ON {table} FOR SELECT TO {reader} USING ({own});
            GRANT SELECT ({names}) ON {table} TO {reader}"
        ))
        .await?;
    }
    Ok(())
}

/// Why row-level security cannot be turned on so.
fn unfit(roles: &Roles) -> Option<String> {
    let Roles { service, reader, .. } = roles;
    if let Some(tables) = &roles.of_others {
        return Some(format!("the role {service} does not own {tables}: run this as their owner"));
    }
    if !roles.bypasses {
        return Some(format!(
            "policies would hide rows from the role {service}, and the service would stop: let a \
             superuser run ALTER ROLE {service} BYPASSRLS, for this and every other role that \
             serves"
        ));
    }
    if roles.reader_bypasses.is_none() && !roles.may_create {
        return Some(format!(
            "the role {reader} does not exist, and the role {service} may not make it: let an \
             administrator run CREATE ROLE {reader} NOLOGIN"
        ));
    }
    if roles.reader_bypasses == Some(true) {
        return Some(format!(
            "the role {reader} bypasses policies, and would see every row: name another one"
        ));
    }
    if roles.reader_serves {
        return Some(format!(
            "the role {reader} is a member of {service}, and could do what the service does: name \
             another one"
        ));
    }
    None
}

/// Returns the roles that the policies were for.
async fn take_away(c: &mut AsyncPgConnection) -> QueryResult<Vec<String>> {
    let tables = SECURED.map(|secured| secured.table).to_vec();
    let readers = sql_query(READERS).bind::<Text, _>(POLICY).bind::<Array<Text>, _>(tables);
    let readers: Vec<Reader> = readers.load(c).await?;
    for Secured { table, .. } in SECURED {
        c.batch_execute(&format!(
            "DROP POLICY IF EXISTS {POLICY} ON {table};
            ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY"
        ))
        .await?;
        for Reader { name, .. } in &readers {
            c.batch_execute(&format!("REVOKE SELECT ON {table} FROM {name}")).await?;
        }
    }
    for Reader { name, schema } in &readers {
        c.batch_execute(&format!("REVOKE USAGE ON SCHEMA {schema} FROM {name}")).await?;
    }
    Ok(readers.into_iter().map(|reader| reader.name).collect())
}

/// What is wrong with policies on the service's tables.
pub(super) async fn findings(c: &mut AsyncPgConnection) -> QueryResult<Vec<Finding>> {
    let tables = SECURED.map(|secured| secured.table).to_vec();
    let look = sql_query(LOOK).bind::<Text, _>(POLICY).bind::<Array<Text>, _>(tables);
    let Seen { service, active, open, others } = look.get_result(c).await?;
    let active = active.map(|tables| {
        Finding::fatal(format!(
            "row-level security would hide rows of {tables} from the role {service}, so every \
             statement on them fails: let a superuser run ALTER ROLE {service} BYPASSRLS, or run \
             `onceguard migrate rls --drop`"
        ))
    });
    let open = open.map(|tables| {
        Finding::warning(format!(
            "row-level security is on, but not for {tables}: run `onceguard migrate rls` again"
        ))
    });
    let others = others.map(|policies| {
        Finding::warning(format!(
            "policies that onceguard did not make let roles see more, or less, than the rows of a \
             DID: {policies}; drop them"
        ))
    });
    Ok([active, open, others].into_iter().flatten().collect())
}
