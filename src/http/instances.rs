//! `GET /v1/instances`: the processes that serve, or have served.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::call::Call;
use super::problem::Problem;
use super::time::Time;
use super::values::{PageView, json};
use super::words;
use crate::domain::Instance;

/// A process of onceguard.
#[derive(Serialize, ToSchema)]
#[schema(as = Instance)]
pub(super) struct View<'a> {
    #[schema(example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")]
    id: Uuid,
    /// The address of its API.
    #[schema(example = "10.0.0.7:8080")]
    name: &'a str,
    #[schema(example = "onceguard-1")]
    host: &'a str,
    #[schema(example = "0.1.0")]
    version: &'a str,
    started_at: Time,
    heartbeat_at: Time,
    /// When it was stopped, or its start failed.
    #[schema(required = true)]
    ended_at: Option<Time>,
    /// `active`: it serves. `ended`: it was stopped in order. `terminated`: its last heartbeat is older
    /// than 60 s. `failed`: its start failed.
    #[schema(value_type = words::InstanceState, example = "active")]
    state: &'static str,
}

impl<'a> View<'a> {
    fn of(instance: &'a Instance) -> Self {
        Self {
            id: instance.id,
            name: &instance.name,
            host: &instance.host,
            version: &instance.version,
            started_at: Time(instance.started_at),
            heartbeat_at: Time(instance.heartbeat_at),
            ended_at: instance.ended_at.map(Time),
            state: instance.state.as_str(),
        }
    }
}

/// The instances of the last week, the latest start first.
#[utoipa::path(
    get, path = "/v1/instances", operation_id = "list_instances", tag = "operations",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 500; 50 when left out", example = 50),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
    ),
    responses((status = 200, description = "A page.", body = PageView<View>)),
)]
pub(super) async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let page = input.page();
    input.finish(|| Some(()))?;
    let page = call.state.instances.list(&page).await?;
    json(StatusCode::OK, &PageView::of(&page, View::of))
}
