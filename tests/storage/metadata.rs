//! Metadata: whatever is accepted reads back as it was accepted, on every database; and what is
//! large is listed in smaller pages.

use onceguard::domain::{
    Changed, MAX_PAGE_BYTES, Metadata, PageRequest, SessionFilter, SessionPatch,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rstest::rstest;
use serde_json::value::RawValue;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{a_session, opened, read};

/// A number as it may be spelt.
fn number() -> impl Strategy<Value = String> {
    let spelt = "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?";
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_filter_map("is finite", |number| serde_json::to_string(&number).ok()),
        proptest::string::string_regex(spelt).unwrap(),
    ]
}

/// A string as it may be spelt.
fn string() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "[ -~]{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        proptest::string::string_regex("\"(\\\\u00[0-9a-f]{2}|\\\\/|\\\\t|\u{7f}|é){0,6}\"")
            .unwrap(),
    ]
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        number(),
        string(),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just(" false ".to_owned()),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6)
                .prop_map(|items| format!("[{}]", items.join(" ,\n"))),
            object(inner),
        ]
    })
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    proptest::collection::vec((string(), value), 0..6).prop_map(|members| {
        let members = members.into_iter().map(|(name, value)| format!("{name} : {value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
    })
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_reads_back_the_same(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[6; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = object(value());
    let (mut accepted, mut refused) = (0, 0);
    while accepted < 300 {
        let text = strategy.new_tree(&mut runner).unwrap().current();
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        let Ok(metadata) = Metadata::parse(raw) else {
            refused += 1;
            continue;
        };
        accepted += 1;
        let mut new = a_session();
        new.metadata = metadata.clone();
        let session = opened(&store, new).await;
        assert_eq!(session.metadata, metadata, "opened with {text}");
        assert_eq!(read(&store, session.id).await.metadata, metadata, "read of {text}");
        // What was read is accepted again, and is the same.
        let again: &RawValue = serde_json::from_str(metadata.as_str()).unwrap();
        assert_eq!(Metadata::parse(again).unwrap(), metadata, "{text}");
        let patch = SessionPatch { metadata: Some(metadata.clone()), ..SessionPatch::default() };
        let Changed::Done(changed) = store.update_session(session.id, patch).await.unwrap() else {
            panic!("the session is not live")
        };
        assert_eq!(changed.metadata, metadata, "changed to {text}");
    }
    assert!(refused > 0, "some have negative zeros, U+0000, or a name twice");
    let page = PageRequest { limit: 500, after: None };
    let listed = store.list_sessions(&SessionFilter::default(), &page).await.unwrap();
    for session in listed.items {
        assert_eq!(session.metadata, read(&store, session.id).await.metadata);
    }
}

/// The number of items is not all that bounds a page.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_a_megabyte_at_most(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    // It compresses to nearly nothing, and its numbers are short to send.
    let text = format!("{{\"a\":[{}]}}", vec!["1e308"; 50].join(","));
    let mut new = a_session();
    new.metadata = Metadata::parse(serde_json::from_str(&text).unwrap()).unwrap();
    let length = new.metadata.as_str().len();
    assert!(length > 15_000);
    let mut expected = Vec::new();
    for _ in 0..150 {
        let mut new = new.clone();
        new.id = a_session().id;
        expected.insert(0, opened(&store, new).await.id);
    }
    let mut after = None;
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let request = PageRequest { limit: 500, after };
        let page = store.list_sessions(&SessionFilter::default(), &request).await.unwrap();
        let bytes: usize = page.items.iter().map(|session| session.metadata.as_str().len()).sum();
        assert!(bytes <= MAX_PAGE_BYTES, "{bytes}");
        found.extend(page.items.iter().map(|session| session.id));
        pages += 1;
        let Some(next) = page.next else { break };
        assert!(bytes + 2 * length > MAX_PAGE_BYTES, "the page ended too early: {bytes}");
        after = Some(next);
    }
    assert_eq!(found, expected);
    assert!(pages >= 3, "{pages}");
}
