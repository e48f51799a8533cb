//! What a random sequence is made of.

use proptest::prelude::*;

/// What may happen. Sessions, parties and nonces are chosen from a few, so that they meet.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// At the same time: the first alone, and the others in the next batch.
    Open(Vec<Opening>),
    Claim(Vec<Attempt>),
    /// At the same time.
    End {
        slots: Vec<usize>,
    },
    Patch {
        slot: usize,
        ttl_minutes: u32,
    },
    Revoke {
        party: usize,
    },
    EndSessionsOfRevoked,
    Pass {
        seconds: u64,
    },
    Purge,
}

#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) slot: usize,
    pub(super) client: usize,
    pub(super) server: usize,
    pub(super) counted: bool,
    pub(super) idle: bool,
    pub(super) ttl_minutes: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) scope: Target,
    pub(super) nonce: usize,
    pub(super) key: Option<u8>,
}

#[derive(Debug, Clone)]
pub(super) enum Target {
    Session {
        slot: usize,
    },
    Signer {
        party: usize,
        expires_in_seconds: i64,
        named: Option<usize>,
    },
    /// Called like the party's DID.
    Namespace {
        party: usize,
        expires_in_seconds: i64,
    },
}

pub(super) const SLOTS: usize = 3;
pub(super) const PARTIES: usize = 4;

fn attempt() -> impl Strategy<Value = Attempt> {
    let scope = prop_oneof![
        3 => (0..SLOTS).prop_map(|slot| Target::Session { slot }),
        3 => (
            0..PARTIES,
            prop_oneof![Just(-30), Just(90), Just(1_500)],
            prop::option::of(0..SLOTS),
        )
            .prop_map(|(party, expires_in_seconds, named)| Target::Signer {
                party, expires_in_seconds, named,
            }),
        1 => (0..PARTIES, prop_oneof![Just(-30), Just(90), Just(1_500)]).prop_map(
            |(party, expires_in_seconds)| Target::Namespace { party, expires_in_seconds },
        ),
    ];
    (scope, 0..6_usize, prop::option::of(1..3_u8)).prop_map(|(scope, nonce, key)| Attempt {
        scope,
        nonce,
        key,
    })
}

fn opening() -> impl Strategy<Value = Opening> {
    (
        0..SLOTS,
        0..PARTIES,
        0..PARTIES,
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(10), Just(60)],
    )
        .prop_map(|(slot, client, server, counted, idle, ttl_minutes)| Opening {
            slot,
            client,
            server,
            counted,
            idle,
            ttl_minutes,
        })
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => prop::collection::vec(opening(), 1..6).prop_map(Operation::Open),
        12 => prop::collection::vec(attempt(), 1..6).prop_map(Operation::Claim),
        1 => prop::collection::vec(0..SLOTS, 1..6).prop_map(|slots| Operation::End { slots }),
        1 => (0..SLOTS, prop_oneof![Just(10), Just(60), Just(600)])
            .prop_map(|(slot, ttl_minutes)| Operation::Patch { slot, ttl_minutes }),
        1 => (0..PARTIES).prop_map(|party| Operation::Revoke { party }),
        1 => Just(Operation::EndSessionsOfRevoked),
        // Never close to a time at which something expires, so that the few moments that an
        // operation takes decide nothing.
        3 => prop_oneof![Just(95_u64), Just(665), Just(3_605), Just(8 * 86_400)]
            .prop_map(|seconds| Operation::Pass { seconds }),
        2 => Just(Operation::Purge),
    ]
}
