//! SQL on a test's database, behind the store's back: to break rows, to age them, to count them.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection};
use onceguard::domain::{SessionId, SignerKey, Timestamp};

use super::databases::connect_with;
use super::hex;

/// A connection of the test's own.
pub enum RawSql {
    Sqlite(Box<Mutex<SqliteConnection>>),
    Postgres(tokio_postgres::Client),
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct Words {
    #[diesel(sql_type = Text)]
    value: String,
}

impl RawSql {
    pub fn sqlite(file: &Path) -> Self {
        let mut connection = SqliteConnection::establish(&file.to_string_lossy()).unwrap();
        connection.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON;").unwrap();
        Self::Sqlite(Box::new(Mutex::new(connection)))
    }

    pub async fn postgres(config: &tokio_postgres::Config) -> Self {
        Self::Postgres(connect_with(config).await)
    }

    /// Runs statements.
    ///
    /// # Errors
    /// The database's message.
    pub async fn try_execute(&self, sql: &str) -> Result<(), String> {
        match self {
            Self::Sqlite(connection) => {
                connection.lock().unwrap().batch_execute(sql).map_err(|error| error.to_string())
            }
            Self::Postgres(client) => client.batch_execute(sql).await.map_err(|error| {
                error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
            }),
        }
    }

    pub async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The number that `SELECT {expression}` returns, for example for `count(*) FROM nonces`.
    pub async fn number(&self, expression: &str) -> i64 {
        match self {
            Self::Sqlite(connection) => {
                let (value, from) = split(expression);
                diesel::sql_query(format!("SELECT CAST({value} AS INTEGER) AS value {from}"))
                    .get_result::<Number>(&mut *connection.lock().unwrap())
                    .unwrap_or_else(|error| panic!("{expression}: {error}"))
                    .value
            }
            Self::Postgres(client) => {
                let (value, from) = split(expression);
                client
                    .query_one(&format!("SELECT CAST({value} AS bigint) {from}"), &[])
                    .await
                    .unwrap_or_else(|error| panic!("{expression}: {error}"))
                    .get(0)
            }
        }
    }

    /// The text that `SELECT {expression}` returns.
    pub async fn text(&self, expression: &str) -> String {
        let (value, from) = split(expression);
        let sql = format!("SELECT CAST({value} AS text) AS value {from}");
        match self {
            Self::Sqlite(connection) => {
                diesel::sql_query(sql)
                    .get_result::<Words>(&mut *connection.lock().unwrap())
                    .unwrap_or_else(|error| panic!("{expression}: {error}"))
                    .value
            }
            Self::Postgres(client) => client
                .query_one(&sql, &[])
                .await
                .unwrap_or_else(|error| panic!("{expression}: {error}"))
                .get(0),
        }
    }

    /// Every row that callers can change, in a form that is only for comparison.
    pub async fn data(&self) -> String {
        let mut data = String::new();
        for table in [
            "sessions",
            "nonces",
            "signer_nonces",
            "signers",
            "dids",
            "record_owners",
            "records",
            "record_blobs",
            "record_shares",
        ] {
            writeln!(data, "{table}:\n{}", self.rows(table).await).unwrap();
        }
        // Which events were handed over moves by itself.
        let webhook = "concat_ws(' ', url, CAST(types AS text), signature, state)";
        let rows = if matches!(self, Self::Sqlite(_)) { "group_concat" } else { "string_agg" };
        let webhooks = format!(
            "coalesce({rows}(row, '; '), '') FROM \
             (SELECT {webhook} AS row FROM webhooks ORDER BY 1) AS sorted"
        );
        writeln!(data, "webhooks:\n{}", self.text(&webhooks).await).unwrap();
        writeln!(data, "events:\n{}", self.acts().await).unwrap();
        data
    }

    /// The events of what was done, without what links them later. A replay's may come later, too.
    async fn acts(&self) -> String {
        let (id, rows) = match self {
            Self::Sqlite(_) => ("hex(id)", "group_concat(row, char(10))"),
            Self::Postgres(_) => ("id", "string_agg(row, chr(10))"),
        };
        let row = format!("concat_ws(' ', {id}, type, source, subject, actor, outcome, at, data)");
        let acts = format!("SELECT {row} AS row FROM events WHERE type NOT LIKE '%.replayed'");
        self.text(&format!("coalesce({rows}, '') FROM ({acts} ORDER BY 1) AS sorted")).await
    }

    /// The rows of one table, as [`Self::data`] has them.
    pub async fn rows(&self, table: &str) -> String {
        let (row, rows) = match self {
            Self::Sqlite(_) => {
                let row = format!(
                    "group_concat('quote(' || name || ')', '||'',''||') \
                     FROM pragma_table_info('{table}')"
                );
                (self.text(&row).await, "group_concat(row, char(10))")
            }
            Self::Postgres(_) => (format!("{table}::text"), "string_agg(row, chr(10))"),
        };
        let sorted = format!("(SELECT {row} AS row FROM {table} ORDER BY 1) AS sorted");
        self.text(&format!("coalesce({rows}, '') FROM {sorted}")).await
    }

    /// The table of the nonces of sessions. On SQLite, `nonces` is a view of it.
    pub const fn session_nonces(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "session_nonces",
            Self::Postgres(_) => "nonces",
        }
    }

    /// A session's id as a literal of this database.
    pub fn id(&self, id: SessionId) -> String {
        match self {
            Self::Sqlite(_) => format!("x'{}'", id.0.simple()),
            Self::Postgres(_) => format!("'{id}'::uuid"),
        }
    }

    /// A signer's key as a literal of this database.
    pub fn signer(&self, key: SignerKey) -> String {
        let hex = hex(&key.0);
        match self {
            Self::Sqlite(_) => format!("x'{hex}'"),
            Self::Postgres(_) => format!(r"'\x{hex}'::bytea"),
        }
    }

    /// A time as a literal of this database.
    pub fn time(&self, time: Timestamp) -> String {
        match self {
            Self::Sqlite(_) => time.timestamp_micros().to_string(),
            Self::Postgres(_) => format!("'{}'::timestamptz", time.to_rfc3339()),
        }
    }

    /// From now on, refuses every new event.
    pub async fn break_audit_log(&self) {
        self.execute(match self {
            Self::Sqlite(_) => {
                "CREATE TRIGGER broken BEFORE INSERT ON events \
                 BEGIN SELECT RAISE(ABORT, 'the audit log is broken'); END"
            }
            Self::Postgres(_) => {
                "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ \
                 BEGIN RAISE EXCEPTION 'the audit log is broken'; END $$; \
                 CREATE TRIGGER broken BEFORE INSERT ON events \
                 FOR EACH ROW EXECUTE FUNCTION broken()"
            }
        })
        .await;
    }

    /// Moves every time in every PostgreSQL table into the past, without waking a trigger.
    pub(super) async fn age_all_rows(&self, by: chrono::Duration) {
        let Self::Postgres(client) = self else { unreachable!("SQLite's clock is moved instead") };
        let columns = client
            .query(
                "SELECT table_name::text, string_agg(format('%1$I = %1$I - interval ''%2$s \
                 microseconds''', column_name, $1::text), ', ') \
                 FROM information_schema.columns JOIN information_schema.tables \
                 USING (table_schema, table_name) \
                 WHERE table_schema = 'public' AND table_type = 'BASE TABLE' \
                 AND data_type LIKE 'timestamp%' AND table_name NOT LIKE '\\_\\_%' \
                 GROUP BY table_name",
                &[&by.num_microseconds().unwrap().to_string()],
            )
            .await
            .unwrap();
        let mut sql = "BEGIN; SET LOCAL session_replication_role = replica;".to_owned();
        for row in columns {
            let (table, set): (String, String) = (row.get(0), row.get(1));
            write!(sql, "UPDATE {table} SET {set};").unwrap();
        }
        sql.push_str("COMMIT");
        client.batch_execute(&sql).await.unwrap();
    }
}

/// `count(*) FROM t` into `count(*)` and `FROM t`.
fn split(expression: &str) -> (&str, &str) {
    expression.find("FROM").map_or((expression, ""), |at| expression.split_at(at))
}
