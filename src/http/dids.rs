//! DIDs: their keys, as this service knows them, and their revocation.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use super::call::Call;
use super::fields::{text, whole_text};
use super::problem::Problem;
use super::time::Time;
use super::values::{PageView, base64, boolean, bytes, json, key_type, owner_address};
use super::words;
use crate::domain::{
    Code, Did, DidFilter, DidForgotten, DidRecord, DidStored, Gone, KeyType, NewDid, PublicKey,
    UnusableMethod,
};
use crate::services::{Asker, Lookup, PutDid, ResolvedDid, VerificationMethod};

/// What is known of a DID.
#[derive(Serialize, ToSchema)]
#[schema(as = Did, example = json!({
    "did": "did:web:client.example",
    "key_type": "Ed25519",
    "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    "verification_methods": [{
        "id": "did:web:client.example#key-1",
        "key_type": "Ed25519",
        "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "authentication": true,
    }],
    "unusable_methods": [],
    "owner_address": null,
    "revoked": false,
    "deactivated": false,
    "source": "stored",
    "fetched_at": "2026-01-02T03:04:05.678901Z",
    "stale_at": "2026-01-02T03:04:10.678901Z",
    "created_at": "2026-01-01T00:00:00.000000Z",
    "updated_at": "2026-01-01T00:00:00.000000Z",
}))]
pub(super) struct View<'a> {
    #[schema(example = "did:web:client.example")]
    did: &'a str,
    /// Null for a DID that was revoked unseen.
    #[schema(value_type = Option<words::KeyType>, required = true)]
    key_type: Option<&'static str>,
    /// Raw bytes in standard padded base64: 32 for Ed25519, 33 (compressed) for the others.
    #[schema(format = Byte, required = true, example = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")]
    public_key: Option<String>,
    /// Where the DID is read on its own; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    verification_methods: Option<Vec<MethodView<'a>>>,
    /// What its document has beside them that cannot be used here, at most 20; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    unusable_methods: Option<Vec<UnusableView<'a>>>,
    #[schema(required = true)]
    owner_address: Option<&'a str>,
    revoked: bool,
    /// Whether its home has taken the DID out of use, which may not be for good.
    deactivated: bool,
    /// Where the key came from: `key`, `stored`, or a resolver's name.
    #[schema(required = true, example = "stored")]
    source: Option<&'a str>,
    #[schema(required = true)]
    fetched_at: Option<Time>,
    #[schema(required = true)]
    stale_at: Option<Time>,
    #[schema(required = true)]
    created_at: Option<Time>,
    #[schema(required = true)]
    updated_at: Option<Time>,
}

/// A key of a DID, by its DID URL.
#[derive(Serialize, ToSchema)]
#[schema(as = VerificationMethod)]
pub(super) struct MethodView<'a> {
    #[schema(example = "did:web:client.example#key-1")]
    id: &'a str,
    #[schema(value_type = words::KeyType)]
    key_type: &'static str,
    #[schema(format = Byte, example = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")]
    public_key: String,
    /// Whether the key may sign: it is in the relationship `authentication`.
    authentication: bool,
}

impl<'a> MethodView<'a> {
    fn of(method: &'a VerificationMethod) -> Self {
        let key = &method.key;
        let (key_type, public_key) = (key.key_type().as_str(), base64(key.as_bytes()));
        Self { id: &method.id, key_type, public_key, authentication: method.authentication }
    }
}

/// What a DID's document has among its verification methods that cannot be used.
#[derive(Serialize, ToSchema)]
#[schema(as = UnusableMethod)]
pub(super) struct UnusableView<'a> {
    /// Null where it names no key of the DID.
    #[schema(required = true, example = "did:web:client.example#key-2")]
    id: Option<&'a str>,
    /// Where in the document it is (JSON Pointer).
    #[schema(example = "/verificationMethod/1")]
    pointer: &'a str,
    /// Why it cannot be used.
    #[schema(
        example = "X25519 keys are not supported: a key that signs is Ed25519, Secp256k1 or P256"
    )]
    detail: &'a str,
}

impl<'a> UnusableView<'a> {
    fn of(method: &'a UnusableMethod) -> Self {
        Self { id: method.id.as_deref(), pointer: &method.pointer, detail: &method.reason }
    }
}

impl<'a> View<'a> {
    fn resolved(did: &'a ResolvedDid) -> Self {
        Self {
            did: did.did.as_str(),
            key_type: did.key.as_ref().map(|key| key.key_type().as_str()),
            public_key: did.key.as_ref().map(|key| base64(key.as_bytes())),
            verification_methods: Some(
                did.verification_methods.iter().map(MethodView::of).collect(),
            ),
            unusable_methods: Some(did.unusable_methods.iter().map(UnusableView::of).collect()),
            owner_address: did.owner_address.as_deref(),
            revoked: did.revoked_at.is_some(),
            deactivated: did.deactivated,
            source: Some(&did.source),
            fetched_at: Some(Time(did.fetched_at)),
            stale_at: Some(Time(did.stale_at)),
            created_at: did.created_at.map(Time),
            updated_at: did.updated_at.map(Time),
        }
    }

    pub(super) fn stored(record: &'a DidRecord) -> Self {
        Self {
            did: record.did.as_str(),
            key_type: record.key.as_ref().map(|key| key.key_type().as_str()),
            public_key: record.key.as_ref().map(|key| base64(key.as_bytes())),
            verification_methods: None,
            unusable_methods: None,
            owner_address: record.owner_address.as_deref(),
            revoked: record.revoked_at.is_some(),
            deactivated: record.gone == Some(Gone::Deactivated),
            source: record.source.as_deref(),
            fetched_at: record.fetched_at.map(Time),
            stale_at: record.stale_at.map(Time),
            created_at: Some(Time(record.created_at)),
            updated_at: Some(Time(record.updated_at)),
        }
    }
}

/// Read a DID's key, through cache, database and resolver.
#[utoipa::path(
    get, path = "/v1/dids/{did}", operation_id = "read_did", tag = "dids",
    params(
        ("did" = String, Path, description = "As it stands, or percent-encoded once with its colons.",
            example = "did:web:client.example"),
        ("max_age" = Option<u32>, Query, description = "The oldest acceptable answer, in seconds.", example = 60),
    ),
    responses((status = 200, description = "What is known of the DID.", body = View, headers(
        ("Age" = u32, description = "How many seconds ago it was read."),
        ("Cache-Control" = String, description = "private, and for how long it is fresh from when it was read."),
    ))),
    extensions(("x-errors" = json!([
        "did_not_found", "did_unresolvable", "rate_limited", "upstream_unavailable",
    ]))),
)]
pub(super) async fn read(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let did = input.path_did("did");
    let max_age = input.query("max_age", whole_text(0..=u32::MAX));
    let did = input.finish(|| did)?;
    let max_age = max_age.map(|seconds| Duration::from_secs(seconds.into()));
    found(&did, &call.state.dids.get(&did, max_age, asker(&call)).await?)
}

/// Read a DID again, whatever is cached.
#[utoipa::path(
    post, path = "/v1/dids/{did}/refresh", operation_id = "refresh_did", tag = "dids",
    params(("did" = String, Path, description = "As it stands, or percent-encoded once with its colons.",
        example = "did:web:client.example")),
    responses((status = 200, description = "What is known of the DID.", body = View)),
    extensions(("x-errors" = json!([
        "did_not_found", "did_unresolvable", "rate_limited", "upstream_unavailable",
    ]))),
)]
pub(super) async fn refresh(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let did = input.path_did("did");
    let did = input.finish(|| did)?;
    found(&did, &call.state.dids.get(&did, Some(Duration::ZERO), asker(&call)).await?)
}

/// The caller may read DIDs: the route's scope says so.
fn asker(call: &Call) -> Asker {
    Asker::Trusted(call.caller.peer(&call.request, &call.state.config.server))
}

fn found(did: &Did, lookup: &Lookup) -> Result<HttpResponse, Problem> {
    let resolved = match lookup {
        Lookup::Found(resolved) => resolved,
        Lookup::NotFound => {
            return Err(Problem::new(Code::DidNotFound, format!("nothing is known of {did}")));
        }
        Lookup::Unresolvable(why) => {
            return Err(Problem::new(Code::DidUnresolvable, format!("{did}: {why}")));
        }
    };
    let mut response = json(StatusCode::OK, &View::resolved(resolved))?;
    set_age(&mut response, resolved);
    Ok(response)
}

/// Says how old an answer is, and for how long it is fresh.
pub(super) fn set_age(response: &mut HttpResponse, resolved: &ResolvedDid) {
    let lifetime = (resolved.stale_at - resolved.fetched_at).num_seconds().max(0);
    let cache_control = HeaderValue::from_str(&format!("private, max-age={lifetime}"))
        .unwrap_or_else(|_| HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::AGE, HeaderValue::from(resolved.age().as_secs()));
    response.headers_mut().insert(header::CACHE_CONTROL, cache_control);
}

/// A key to store for a DID.
#[derive(ToSchema)]
#[schema(as = NewDid)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    /// Raw bytes in standard padded base64: 32 for `Ed25519`, 33 (a compressed point) for
    /// `Secp256k1` and `P256`. Weak keys are refused.
    #[schema(value_type = String, format = Byte, example = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")]
    public_key: Vec<u8>,
    #[schema(value_type = words::KeyType)]
    key_type: KeyType,
    /// 1 to 255 visible ASCII characters.
    #[schema(nullable = false)]
    owner_address: Option<String>,
}

/// Store or replace a DID's key.
#[utoipa::path(
    put, path = "/v1/dids/{did}", operation_id = "store_did", tag = "dids",
    params(("did" = String, Path, description = "As it stands, or percent-encoded once with its colons.",
        example = "did:web:client.example")),
    request_body(content = Body, example = json!({
        "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "key_type": "Ed25519",
    })),
    responses(
        (status = 201, description = "Stored for the first time.", body = View),
        (status = 200, description = "Replaced.", body = View),
    ),
    extensions(("x-errors" = json!(["409 did_revoked"]))),
)]
pub(super) async fn put(call: Call) -> Result<HttpResponse, Problem> {
    let (did, body) = read_new(&call)?;
    let key = PublicKey::new(body.key_type, &body.public_key)
        .map_err(|error| Problem::invalid_field("/public_key", error.to_string()))?;
    let new = NewDid { did: did.clone(), key, owner_address: body.owner_address };
    match call.state.dids.put(new, call.caller.actor()).await? {
        PutDid::Stored(DidStored::Created(record)) => {
            json(StatusCode::CREATED, &View::stored(&record))
        }
        PutDid::Stored(DidStored::Replaced(record)) => json(StatusCode::OK, &View::stored(&record)),
        PutDid::Stored(DidStored::Revoked(_)) => Err(Problem::did_revoked_conflict(&did)),
        PutDid::HasHome(source) => Err(Problem::invalid_field(
            "did",
            format!(
                "is read from where it lives, by the resolver `{source}`; only a DID that no resolver reads can be stored"
            ),
        )),
        PutDid::KeyMismatch => Err(Problem::invalid_field(
            "/public_key",
            "with key_type, must be the very key that the did:key is",
        )),
    }
}

fn read_new(call: &Call) -> Result<(Did, Body), Problem> {
    let mut input = call.json()?;
    let did = input.path_did("did");
    let public_key = input.required("public_key", bytes);
    let key_type = input.required("key_type", text(key_type));
    let owner_address = input.optional("owner_address", text(owner_address));
    input.finish(|| {
        Some((did?, Body { public_key: public_key?, key_type: key_type?, owner_address }))
    })
}

/// Forget a DID that is not revoked.
#[utoipa::path(
    delete, path = "/v1/dids/{did}", operation_id = "forget_did", tag = "dids",
    params(("did" = String, Path, description = "As it stands, or percent-encoded once with its colons.",
        example = "did:web:client.example")),
    responses((status = 204, description = "Forgotten.")),
    extensions(("x-errors" = json!(["did_not_found", "409 did_revoked"]))),
)]
pub(super) async fn forget(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let did = input.path_did("did");
    let did = input.finish(|| did)?;
    match call.state.dids.forget(&did, call.caller.actor()).await? {
        DidForgotten::Done => Ok(HttpResponse::NoContent().finish()),
        DidForgotten::NotFound => {
            Err(Problem::new(Code::DidNotFound, format!("nothing is stored about {did}")))
        }
        DidForgotten::Revoked => Err(Problem::did_revoked_conflict(&did)),
    }
}

/// A revocation.
#[derive(Serialize, ToSchema)]
#[schema(as = Revocation)]
pub(super) struct RevocationView<'a> {
    #[schema(example = "did:web:client.example")]
    did: &'a str,
    /// The first revocation's time.
    revoked_at: Time,
    /// By this call.
    #[schema(example = 3)]
    sessions_ended: u64,
}

/// Revoke a DID, for good, seen before or not; its sessions end.
#[utoipa::path(
    post, path = "/v1/dids/{did}/revoke", operation_id = "revoke_did", tag = "dids",
    params(("did" = String, Path, description = "As it stands, or percent-encoded once with its colons.",
        example = "did:web:client.example")),
    responses((status = 200, description = "It is revoked.", body = RevocationView)),
)]
pub(super) async fn revoke(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let did = input.path_did("did");
    let did = input.finish(|| did)?;
    if call.caller.is_agent_beside(Some(&did), None) {
        return Err(Problem::new(Code::Forbidden, "an agent may revoke only its own DID"));
    }
    let revocation = call.state.dids.revoke(&did, &call.caller.actor()).await?;
    let view = RevocationView {
        did: did.as_str(),
        revoked_at: Time(revocation.revoked_at),
        sessions_ended: revocation.sessions_ended,
    };
    json(StatusCode::OK, &view)
}

/// List stored DIDs, in the order of their text.
#[utoipa::path(
    get, path = "/v1/dids", operation_id = "list_dids", tag = "dids",
    params(
        ("owner_address" = Option<String>, Query),
        ("key_type" = Option<words::KeyType>, Query, example = "Ed25519"),
        ("revoked" = Option<bool>, Query, example = false),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "1 to 500; 50 when left out", example = 50),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
    ),
    responses((status = 200, description = "A page.", body = PageView<View>)),
)]
pub(super) async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let filter = DidFilter {
        owner_address: input.query("owner_address", owner_address),
        key_type: input.query("key_type", key_type),
        revoked: input.query("revoked", boolean),
    };
    let page = input.page();
    input.finish(|| Some(()))?;
    let page = call.state.dids.list(&filter, &page).await?;
    json(StatusCode::OK, &PageView::of(&page, View::stored))
}
