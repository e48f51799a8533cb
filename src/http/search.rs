//! `GET /v1/search`: stored DIDs and sessions by their words. A token finds what it may list.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::Call;
use super::problem::Problem;
use super::values::{PageView, json};
use super::{dids, sessions};
use crate::domain::{Code, Found, Search, Searched, TokenScope, Words};

/// What was found: `kind` tells which. Each has its kind as a field, since generators of clients make
/// nothing of a union whose parts have no name.
#[derive(Serialize, ToSchema)]
#[schema(as = Found)]
#[serde(untagged)]
pub(super) enum View<'a> {
    Did(DidView<'a>),
    Session(SessionView<'a>),
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DidKind {
    Did,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SessionKind {
    Session,
}

/// A stored DID, as lists have it.
#[derive(Serialize, ToSchema)]
#[schema(as = FoundDid)]
pub(super) struct DidView<'a> {
    #[schema(inline)]
    kind: DidKind,
    /// The DID.
    #[schema(example = "did:web:client.example")]
    id: &'a str,
    #[serde(flatten)]
    did: dids::View<'a>,
}

/// A session, as lists have it.
#[derive(Serialize, ToSchema)]
#[schema(as = FoundSession)]
pub(super) struct SessionView<'a> {
    #[schema(inline)]
    kind: SessionKind,
    #[serde(flatten)]
    session: sessions::View<'a>,
}

impl<'a> View<'a> {
    fn of(found: &'a Found) -> Self {
        match found {
            Found::Did(record) => Self::Did(DidView {
                kind: DidKind::Did,
                id: record.did.as_str(),
                did: dids::View::stored(record),
            }),
            Found::Session(session) => Self::Session(SessionView {
                kind: SessionKind::Session,
                session: sessions::View::of(session),
            }),
        }
    }
}

/// Search stored DIDs and sessions by their words, newest first.
///
/// A DID is found by the words of its text, a session by the names, texts and numbers of its metadata. A
/// word is a run of letters and digits; upper and lower case are the same. What is found has all the words of q, as
/// whole words. A token with the scope `dids` finds DIDs, one with `sessions` finds sessions in any
/// state.
#[utoipa::path(
    get, path = "/v1/search", operation_id = "search", tag = "operations",
    params(
        ("q" = String, Query, description = "1 to 32 different words, and anything between them.", example = "web example"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "1 to 500; 50 when left out. A page of long metadata ends earlier, and has a next_cursor.", example = 50),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
    ),
    responses((status = 200, description = "A page.", body = PageView<View>)),
)]
pub(super) async fn search(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let words = input.required_query("q", Words::asked);
    let page = input.page();
    let words = input.finish(|| words)?;
    let search = Search {
        words,
        dids: call.caller.has(TokenScope::Dids),
        sessions: call.caller.has(TokenScope::Sessions),
    };
    match call.state.searches.search(&search, &page).await? {
        Searched::Page(page) => json(StatusCode::OK, &PageView::of(&page, View::of)),
        Searched::Indexing => Err(Problem::new(
            Code::StorageUnavailable,
            "the words of some stored DIDs or sessions are not in the index yet, so the answer could lack them; repeat the search",
        )),
    }
}
