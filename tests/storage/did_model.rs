//! Random readings, keys stored by hand, and revocations of one DID, several at a time and from
//! two instances. What is stored afterwards is what a model of the rules has after them in some
//! order; and whatever the order, nothing un-revokes and no version goes down.

use std::sync::LazyLock;
use std::time::Duration;

use onceguard::domain::{Did, DidRecord, Gone, NewDid, Timestamp};
use onceguard::storage::{Answer, Reading, Store};
use proptest::prelude::*;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{a_did, a_document, a_public_key, an_event, minutes};

#[derive(Debug, Clone, Copy)]
enum Operation {
    Record { said: Said, version: Option<u64>, asked: u64 },
    Put { key: u8 },
    Forget,
    Revoke,
}

#[derive(Debug, Clone, Copy)]
enum Said {
    Document { key: u8 },
    Gone(Gone),
}

/// What is stored of the DID. Keys and documents are numbers, times the order of asking.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Row {
    revoked: bool,
    key: Option<u8>,
    document: Option<u8>,
    gone: Option<Gone>,
    version: Option<u64>,
    /// `None` for a key that was stored by hand, and for a DID that was revoked unseen.
    asked: Option<u64>,
}

fn apply(row: Option<Row>, operation: Operation) -> Option<Row> {
    let before = row.unwrap_or_default();
    match operation {
        Operation::Revoke => Some(Row { revoked: true, ..before }),
        _ if before.revoked => row,
        Operation::Put { key } => Some(Row { key: Some(key), ..Row::default() }),
        Operation::Forget => None,
        Operation::Record { version, asked, .. }
            if before.version.zip(version).is_some_and(|(has, new)| has > new)
                || before.asked.is_some_and(|before| before > asked) =>
        {
            row
        }
        Operation::Record { said: Said::Document { key }, version, asked } => Some(Row {
            key: Some(key),
            document: Some(key),
            version,
            asked: Some(asked),
            ..Row::default()
        }),
        Operation::Record { said: Said::Gone(gone), version, asked } => {
            row.map(|row| Row { gone: Some(gone), version, asked: Some(asked), ..row })
        }
    }
}

/// What there is after the operations, in every order that they may have come in.
fn outcomes(row: Option<Row>, operations: &[Operation]) -> Vec<Option<Row>> {
    if operations.is_empty() {
        return vec![row];
    }
    let first = |at: usize| {
        let mut rest = operations.to_vec();
        let operation = rest.remove(at);
        outcomes(apply(row, operation), &rest)
    };
    (0..operations.len()).flat_map(first).collect()
}

struct Tested {
    instances: [Store; 2],
    did: Did,
    start: Timestamp,
}

impl Tested {
    fn reading(&self, said: Said, version: Option<u64>, asked: u64) -> Reading {
        let answer = match said {
            Said::Document { key } => {
                Answer::Document { document: a_document(&self.did, key), owner_address: None }
            }
            Said::Gone(gone) => Answer::Gone(gone),
        };
        let asked_at = self.start + Duration::from_secs(asked);
        let did = self.did.clone();
        Reading { did, source: "web", answer, version, asked_at, ttl: minutes(5) }
    }

    /// Runs operations beside each other.
    async fn run(&self, operations: &[Operation]) {
        let mut running = JoinSet::new();
        for (number, operation) in operations.iter().enumerate() {
            let (store, did) = (self.instances[number % 2].clone(), self.did.clone());
            match *operation {
                Operation::Record { said, version, asked } => {
                    let reading = self.reading(said, version, asked);
                    running.spawn(async move { store.record_did(reading).await.map(drop) });
                }
                Operation::Put { key } => {
                    let new = NewDid { did, key: a_public_key(key), owner_address: None };
                    running.spawn(async move {
                        store.put_did(new, an_event("onceguard.did.stored", &"x")).await.map(drop)
                    });
                }
                Operation::Forget => {
                    running.spawn(async move {
                        store
                            .forget_did(&did, an_event("onceguard.did.forgotten", &"x"))
                            .await
                            .map(drop)
                    });
                }
                Operation::Revoke => {
                    let event = an_event("onceguard.did.revoked", &did);
                    running.spawn(async move { store.revoke_did(&did, event).await.map(drop) });
                }
            }
        }
        for result in running.join_all().await {
            result.unwrap();
        }
    }

    async fn find(&self) -> Option<DidRecord> {
        self.instances[0].did(&self.did).await.unwrap()
    }

    /// A record in the model's terms.
    fn row(&self, record: &DidRecord) -> Row {
        let number = |found: &dyn Fn(u8) -> bool| (0..KEYS).find(|number| found(*number));
        Row {
            revoked: record.revoked_at.is_some(),
            key: number(&|key| record.key == Some(a_public_key(key))),
            document: number(&|key| record.document == Some(a_document(&self.did, key))),
            gone: record.gone,
            version: record.version,
            asked: record
                .stale_at
                .and(record.fetched_at)
                .map(|asked_at| u64::try_from((asked_at - self.start).num_seconds()).unwrap()),
        }
    }
}

const KEYS: u8 = 3;

fn operation() -> impl Strategy<Value = Operation> {
    let said = prop_oneof![
        3 => (0..KEYS).prop_map(|key| Said::Document { key }),
        1 => Just(Said::Gone(Gone::NotFound)),
        1 => Just(Said::Gone(Gone::Deactivated)),
    ];
    prop_oneof![
        12 => (said, prop::option::weighted(0.8, 0..4_u64), 0..6_u64).prop_map(
            |(said, version, asked)| Operation::Record { said, version, asked },
        ),
        2 => (0..KEYS).prop_map(|key| Operation::Put { key }),
        1 => Just(Operation::Forget),
        1 => Just(Operation::Revoke),
    ]
}

async fn follows_the_model(
    tested: Tested,
    batches: Vec<Vec<Operation>>,
) -> Result<(), TestCaseError> {
    let mut before: Option<DidRecord> = None;
    for batch in batches {
        tested.run(&batch).await;
        let after = tested.find().await;
        let row = after.as_ref().map(|record| tested.row(record));
        let possible = outcomes(before.as_ref().map(|record| tested.row(record)), &batch);
        prop_assert!(possible.contains(&row), "{before:?}, then {batch:?}: {after:?}");

        if let Some(revoked_at) = before.as_ref().and_then(|record| record.revoked_at) {
            prop_assert_eq!(after.as_ref().and_then(|record| record.revoked_at), Some(revoked_at));
        }
        let only_read =
            batch.iter().all(|o| matches!(o, Operation::Record { version: Some(_), .. }));
        if only_read {
            let version = |record: &Option<DidRecord>| record.as_ref().and_then(|r| r.version);
            prop_assert!(version(&after) >= version(&before), "{before:?}, then {after:?}");
        }
        before = after;
    }
    Ok(())
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

fn check(on: Database, cases: u32) {
    let (store, instances) = RUNTIME.block_on(async {
        let store = on.store().await;
        let other = if on == Postgres { store.another().await } else { (*store).clone() };
        let instances = [(*store).clone(), other];
        (store, instances)
    });
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let batches = prop::collection::vec(prop::collection::vec(operation(), 1..4), 1..12);
    let result = proptest::test_runner::TestRunner::new(config).run(&batches, |batches| {
        RUNTIME.block_on(async {
            let start = instances[0].now().await.unwrap();
            let tested = Tested { instances: instances.clone(), did: a_did(), start };
            follows_the_model(tested, batches).await
        })
    });
    let _entered = RUNTIME.enter();
    drop((store, instances));
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn sqlite_records_as_the_model() {
    check(Sqlite, 60);
}

#[test]
fn sqlite_in_memory_records_as_the_model() {
    check(Memory, 200);
}

#[test]
fn postgres_records_as_the_model() {
    check(Postgres, 100);
}
