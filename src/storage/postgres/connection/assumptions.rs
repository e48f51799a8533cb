//! What the statements of this store take for granted of a connection: all of it, and only here.
//!
//! A configuration file, a database or a role may set other defaults (`ALTER DATABASE … SET`,
//! `ALTER ROLE … SET`), so nothing of it is left to them: each is set when a connection opens, and
//! then looked at once more. A connection that cannot be made right is never used.
//!
//! Statements name no schema. It is `public`, unless the URL names another (`options=-c
//! search_path=…`): only what the operator told onceguard itself counts.

use std::fmt::Write as _;
use std::time::Duration;

use diesel::sql_types::{Array, Bool, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

/// What every connection sets. Names and values are as `pg_settings` has them.
const SET: [(&str, &str); 15] = [
    // A statement sees what was committed before it: revocations and openings, which take turns
    // by locks, rely on it, and so does whatever reads after it waited.
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    // Answers come after the disk, and the synchronous standby's where there is one.
    ("synchronous_commit", "on"),
    // A policy that hides rows fails a statement, rather than hide a nonce that was used.
    ("row_security", "off"),
    // What text in a statement means, and text that the server makes.
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    ("array_nulls", "on"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    // A connection stays after an error, and while nothing is asked.
    ("exit_on_error", "off"),
    ("idle_session_timeout", "0"),
    ("lock_timeout", "0"),
];

/// In milliseconds: an instance that stops in the middle of a transaction loses its locks after this.
/// One that works sends the next statement within milliseconds.
const IDLE_IN_TRANSACTION: &str = "3000";

/// What only some roles may set, or only newer servers have: set where it is otherwise.
const SET_IF_OTHERWISE: [(&str, &str); 3] = [
    // Triggers tell of changed DIDs, keep revocations, and remove nonces with their session.
    ("session_replication_role", "origin"),
    ("zero_damaged_pages", "off"),
    ("transaction_timeout", "0"),
];

/// What follows from these.
const IMPLIED: [(&str, &str); 2] =
    [("transaction_isolation", "read committed"), ("transaction_deferrable", "off")];

/// In a statement of its own: the setting of a running statement's isolation comes too late.
const SET_OTHERWISE: &str = "
    SELECT set_config(name, value, false) AS set
    FROM (
        SELECT name, value FROM unnest($1, $2) AS wanted (name, value)
        JOIN pg_settings USING (name) WHERE setting <> value
        UNION ALL
        SELECT name, 'public' FROM pg_settings
        WHERE name = 'search_path' AND source <> 'client'
    ) AS otherwise";

/// `elsewhere` are schemas with tables of onceguard, when the schema of this connection has none
/// and the URL names none: a database whose default `search_path` used to lead there must not be
/// taken for an empty one.
const LOOK: &str = "
    SELECT
        (
            SELECT string_agg(format('%s = %L instead of %L', name, setting, value), ', ')
            FROM unnest($1, $2) AS wanted (name, value)
            JOIN pg_settings USING (name) WHERE setting <> value
        ) AS wrong,
        coalesce(current_setting('onceguard.instance', true), '') = $3 AS kept,
        current_setting('server_encoding') AS encoding,
        pg_is_in_recovery() AS standby,
        current_setting('transaction_read_only')::boolean AS read_only,
        current_schema()::text AS schema,
        (
            SELECT string_agg(quote_ident(nspname), ', ')
            FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE relname = 'signer_nonces' AND relkind IN ('r', 'p')
                AND to_regclass('signer_nonces') IS NULL
                AND (SELECT source <> 'client' FROM pg_settings WHERE name = 'search_path')
        ) AS elsewhere";

/// What a connection of one kind must be like.
pub(crate) struct Assumptions {
    settings: Vec<(&'static str, String)>,
    /// Names the store in its sessions, for those who watch what it does. That it is still there
    /// later shows that the session is this connection's own.
    instance: String,
}

/// Why a connection cannot be used.
pub(super) enum Unmet {
    /// The server does not answer (any more).
    Lost(diesel::result::Error),
    /// A standby, or a server that takes no writes.
    ReadOnly(&'static str),
    /// A database, or a role, that will not do. Says what to do.
    Unsuitable(String),
}

#[derive(QueryableByName)]
struct Seen {
    #[diesel(sql_type = Nullable<Text>)]
    wrong: Option<String>,
    #[diesel(sql_type = Bool)]
    kept: bool,
    #[diesel(sql_type = Text)]
    encoding: String,
    #[diesel(sql_type = Bool)]
    standby: bool,
    #[diesel(sql_type = Bool)]
    read_only: bool,
    #[diesel(sql_type = Nullable<Text>)]
    schema: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    elsewhere: Option<String>,
}

impl Assumptions {
    /// `more` is set too, and overrides what all connections have.
    pub(crate) fn new(
        instance: Uuid,
        statement_timeout: Duration,
        more: &[(&'static str, &str)],
    ) -> Self {
        let milliseconds = statement_timeout.as_millis().to_string();
        let timeouts = [
            ("statement_timeout", milliseconds.as_str()),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
        ];
        let mut settings: Vec<(&'static str, String)> = Vec::new();
        for (name, value) in timeouts.iter().chain(&SET).chain(more) {
            settings.retain(|(earlier, _)| earlier != name);
            settings.push((name, (*value).to_owned()));
        }
        Self { settings, instance: instance.to_string() }
    }

    /// The same, without a limit on how long a statement may take, and without `more`.
    pub(crate) fn patient(&self) -> Self {
        let instance = self.instance.clone();
        let never = ["statement_timeout", "idle_in_transaction_session_timeout"];
        let settings = never.iter().map(|name| (*name, "0")).chain(SET);
        Self {
            settings: settings.map(|(name, value)| (name, value.to_owned())).collect(),
            instance,
        }
    }

    /// Sets a new connection up, and makes sure of it.
    pub(super) async fn establish(&self, c: &mut AsyncPgConnection) -> Result<(), Unmet> {
        self.set_and_look(c).await?.judge()
    }

    async fn set_and_look(&self, c: &mut AsyncPgConnection) -> Result<Seen, Unmet> {
        let mut setup = format!("SET onceguard.instance = '{}';", self.instance);
        for (name, value) in &self.settings {
            // Cannot fail: it is a string.
            let _ = write!(setup, "SET {name} = '{value}';");
        }
        c.batch_execute(&setup).await.map_err(Unmet::Lost)?;
        let (names, values): (Vec<_>, Vec<_>) = SET_IF_OTHERWISE.into_iter().unzip();
        let set = sql_query(SET_OTHERWISE)
            .bind::<Array<Text>, _>(names)
            .bind::<Array<Text>, _>(values)
            .execute(c)
            .await;
        if let Err(error) = set {
            // Refused, unless the connection has gone with it.
            if c.batch_execute("SELECT 1").await.is_err() {
                return Err(Unmet::Lost(error));
            }
            let names = SET_IF_OTHERWISE.map(|(name, _)| name).join(", ");
            return Err(Unmet::Unsuitable(format!(
                "a connection cannot be set up ({error}): if its role may not undo a default \
                 ({names}), take that back by ALTER ROLE or ALTER DATABASE … RESET; if a pooler in \
                 transaction mode is before the database, let it pool sessions"
            )));
        }
        let settings = self.settings.iter().map(|(name, value)| (*name, value.as_str()));
        let (names, values): (Vec<_>, Vec<_>) =
            settings.chain(SET_IF_OTHERWISE).chain(IMPLIED).unzip();
        sql_query(LOOK)
            .bind::<Array<Text>, _>(names)
            .bind::<Array<Text>, _>(values)
            .bind::<Text, _>(&self.instance)
            .get_result(c)
            .await
            .map_err(Unmet::Lost)
    }
}

impl Seen {
    fn judge(self) -> Result<(), Unmet> {
        let Self { wrong, kept, encoding, standby, read_only, schema, elsewhere } = self;
        if standby {
            return Err(Unmet::ReadOnly("the database is read-only: its server is a standby"));
        }
        if encoding != "UTF8" {
            return Err(Unmet::Unsuitable(format!(
                "its encoding is {encoding}, which cannot hold every text: make one with \
                 ENCODING 'UTF8' TEMPLATE template0"
            )));
        }
        if !kept {
            return Err(Unmet::Unsuitable(
                "a connection does not keep its session: a pooler in transaction mode is before \
                 it; connect without it, or let it pool sessions"
                    .into(),
            ));
        }
        if let Some(wrong) = wrong {
            return Err(Unmet::Unsuitable(format!("a connection cannot be set up: {wrong}")));
        }
        if read_only {
            return Err(Unmet::ReadOnly("the database is read-only: its server takes no writes"));
        }
        if let Some(schemas) = elsewhere {
            return Err(Unmet::Unsuitable(format!(
                "onceguard's tables are in the schema {schemas}, and the schema that is used is \
                 public: name it in the URL, as options=-csearch_path%3D{schemas}"
            )));
        }
        if schema.is_none() {
            return Err(Unmet::Unsuitable(
                "it has no schema public (or none that its role may use, or not the one that the \
                 URL's search_path names): create it, or grant USAGE on it"
                    .into(),
            ));
        }
        Ok(())
    }
}
