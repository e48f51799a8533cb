//! Sealing and opening session keys.

use divan::Bencher;
use onceguard::config::SealingKeyBytes;
use onceguard::domain::{Did, SessionId};
use onceguard::services::{Sealer, SealingKeys};
use uuid::Uuid;
use zeroize::Zeroizing;

const PLAINTEXT: [u8; 32] = [3; 32];

pub(crate) fn keys() -> SealingKeys {
    SealingKeys::new(vec![SealingKeyBytes(Zeroizing::new([7; 32]))]).unwrap()
}

fn parties() -> (SessionId, Did, Did) {
    let did = |text| Did::parse(text).unwrap();
    (SessionId(Uuid::now_v7()), did("did:web:a.example"), did("did:web:b.example"))
}

#[divan::bench]
fn seal(bencher: Bencher<'_, '_>) {
    let (sealer, (session, client, server)) = (Sealer::new(&keys()), parties());
    bencher.bench(|| sealer.seal(&PLAINTEXT, session, &client, &server).unwrap());
}

#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    let (sealer, (session, client, server)) = (Sealer::new(&keys()), parties());
    let secret = sealer.seal(&PLAINTEXT, session, &client, &server).unwrap();
    bencher.bench(|| sealer.open(&secret, session, &client, &server).unwrap());
}
