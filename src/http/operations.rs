//! The table of what callers can do: path, method, the scope that a token needs, which agents may and
//! which tokens that are bound to a namespace, handler.

use std::collections::BTreeMap;

use super::auth::{Access, Bound, either, in_namespace, or_agent, or_owner};
use super::entry::Entry;
use super::path::Path;
use super::{
    claims, dids, erasure, events, forward_auth, identifiers, instances, namespaces, nonces,
    records, search, sessions, stats, verify, webhooks,
};
use crate::domain::TokenScope;

/// The paths that are asked for most come first: they are tried in this order.
#[rustfmt::skip]
pub(super) fn table() -> Vec<Path> {
    use TokenScope::{Admin, Audit, Dids, Events, Nonces, Records, Revoke, SessionKeys, Sessions, Verify, Webhooks};
    vec![
        Path::new("/v1/verify").post(Verify, verify::verify),
        Path::new("/v1/claims").post(or_agent(Nonces).bound(Bound::Body), claims::claim),
        Path::new("/v1/sessions").post(or_agent(Sessions), sessions::open).get(or_agent(Sessions), sessions::list),
        Path::new("/v1/sessions/end").post(or_agent(Sessions), sessions::end_all),
        Path::new("/v1/sessions/{id}/nonces").post(or_agent(Nonces), nonces::claim),
        Path::new("/v1/sessions/{id}")
            .get(or_agent(Sessions), sessions::read).patch(Sessions, sessions::change).delete(or_agent(Sessions), sessions::end),
        Path::new("/v1/sessions/{id}/key").get(or_agent(SessionKeys), sessions::key),
        Path::new("/v1/sessions/{id}/touch").post(or_agent(Sessions), sessions::touch),
        Path::new("/v1/sessions/{id}/nonces/{nonce}").get(Nonces, nonces::used),
        Path::new("/v1/namespaces/{namespace}/nonces").post(in_namespace(Nonces), namespaces::claim),
        Path::new("/v1/namespaces/{namespace}").get(in_namespace(Nonces), namespaces::read_namespace),
        Path::new("/v1/namespaces/{namespace}/nonces/{nonce}").get(in_namespace(Nonces), namespaces::used),
        Path::new("/v1/dids").get(Dids, dids::list),
        Path::new("/v1/dids/{did}").get(Dids, dids::read).put(Dids, dids::put).delete(Dids, dids::forget),
        Path::new("/v1/dids/{did}/revoke").post(or_agent(Revoke), dids::revoke),
        Path::new("/v1/dids/{did}/refresh").post(Dids, dids::refresh),
        Path::new("/v1/dids/{did}/data").delete(or_owner(Admin), erasure::erase),
        Path::new("/v1/records").get(Admin, records::inactive).delete(Admin, records::delete_inactive),
        Path::new("/v1/records/{did}").get(or_owner(Records), records::feed).delete(or_owner(Records), records::delete_all),
        Path::new("/v1/records/{did}/batch").post(Entry::of_records(or_owner(Records)), records::batch),
        Path::new("/v1/records/{did}/usage").get(or_owner(Records), records::usage),
        Path::new("/v1/records/{did}/{kind}/{id}")
            .get(or_owner(Records), records::read)
            .put(Entry::of_records(or_owner(Records)).asking(records::before_put), records::put)
            .delete(or_owner(Records), records::delete),
        Path::new("/v1/events").post(Entry::of_events(Events), events::publish).get(Audit, events::read),
        Path::new("/v1/webhooks").post(Webhooks, webhooks::create).get(Webhooks, webhooks::list),
        Path::new("/v1/webhooks/{id}").patch(Webhooks, webhooks::change).delete(Webhooks, webhooks::delete),
        Path::new("/v1/webhooks/{id}/deliveries").get(Webhooks, webhooks::deliveries),
        Path::new("/v1/webhooks/{id}/replay").post(Webhooks, webhooks::replay),
        Path::new("/v1/search").get(either(Sessions, Dids), search::search),
        Path::new("/v1/stats").get(Admin, stats::stats),
        Path::new("/v1/instances").get(Admin, instances::list),
        // The handlers of these ask for it themselves, unless the configuration opens them:
        Path::new("/v1/forward-auth").any(Verify, forward_auth::forward_auth),
        Path::new("/v1/forward-auth/{tail:.*}").any(Verify, forward_auth::forward_auth),
        Path::new("/1.0/identifiers/{did}").asking(Dids, identifiers::resolve),
        Path::new("/1.0/methods").asking(Dids, identifiers::methods),
        Path::new("/1.0/properties").asking(Dids, identifiers::properties),
    ]
}

/// Who may use each operation, such as `GET /v1/sessions`.
pub(super) fn accesses() -> BTreeMap<String, Access> {
    let all = table().into_iter().flat_map(|Path { pattern, methods, .. }| {
        let guarded = methods.into_iter().filter_map(|(method, access)| Some((method, access?)));
        guarded.map(move |(method, access)| (format!("{method} {pattern}"), access))
    });
    all.collect()
}
