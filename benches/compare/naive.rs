//! The handler that people write first: one INSERT … ON CONFLICT per request, through a pool, on
//! the founding schema. It is given its best chance: each connection prepares the statement once,
//! and no connection is tested before use.

use std::sync::Arc;

use actix_web::{App, HttpResponse, HttpServer, web};
use chrono::{Duration, Utc};
use diesel::prelude::*;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::Result;
use crate::bare::{self, Nonce};
use crate::bench::{Bench, Sample, Subject};
use crate::process::Process;
use crate::wire::{self, HttpClient};

pub const FOUNDING_SCHEMA: &str = include_str!("founding.sql");

const CONNECTIONS: u32 = 25;

diesel::table! {
    nonces (nonce) {
        nonce -> Text,
        session_id -> Uuid,
        used_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

async fn claim(
    pool: web::Data<Pool<AsyncPgConnection>>,
    session: web::Path<Uuid>,
    body: web::Json<Nonce>,
) -> HttpResponse {
    let (session, nonce) = (session.into_inner(), body.into_inner().nonce);
    let now = Utc::now();
    let row = (
        nonces::nonce.eq(&nonce),
        nonces::session_id.eq(session),
        nonces::used_at.eq(now),
        nonces::expires_at.eq(now + Duration::hours(1)),
    );
    let mut connection = pool.get().await.unwrap();
    let inserted = diesel::insert_into(nonces::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(&mut connection)
        .await
        .unwrap();
    drop(connection);
    match inserted {
        1 => bare::accepted(session.to_string(), nonce),
        _ => HttpResponse::Conflict().finish(),
    }
}

pub fn serve() -> Result<()> {
    let url = std::env::var("DATABASE_URL")?;
    let serving = async {
        let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
        let pool =
            Pool::builder().max_size(CONNECTIONS).test_on_check_out(false).build(manager).await?;
        let pool = web::Data::new(pool);
        let app = move || {
            App::new()
                .app_data(pool.clone())
                .route("/v1/sessions/{id}/nonces", web::post().to(claim))
        };
        Ok(HttpServer::new(app).listen(bare::listener()?)?.run().await?)
    };
    actix_web::rt::System::new().block_on(serving)
}

pub fn claims(bench: &Bench, connections: usize) -> Result<Sample> {
    let database = bench.postgres.database()?;
    database.run(FOUNDING_SCHEMA)?;
    let sessions: Arc<[String]> = database.values("SELECT id FROM sessions")?.into();
    let environment = [("DATABASE_URL", database.url.as_str())];
    let (process, address) = Process::spawn_self("naive", &environment)?;
    let subject = Subject { address, pid: process.id(), postgres: Some(&bench.postgres) };
    let request = wire::single_claim();
    subject.measure(bench, connections, 1, &|| HttpClient::boxed(&request, &sessions, 201, 0))
}
