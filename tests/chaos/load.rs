//! Clients that claim until they are stopped, and the answers that they got.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Answer, Caller, DEADLINE, Home, Process, http_client};

/// How many clients claim each nonce, at nearly the same time.
const CLAIMS_PER_NONCE: u64 = 3;

/// The answer that a client got about a nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Accepted,
    Replayed,
    /// A 503 with this code.
    Unavailable(String),
    /// No complete answer. The outcome is unknown.
    Nothing(String),
}

impl Told {
    /// Whether the outcome is unknown.
    fn leaves_open(&self) -> bool {
        match self {
            Self::Nothing(_) => true,
            Self::Unavailable(code) => code == "outcome_unknown",
            Self::Accepted | Self::Replayed => false,
        }
    }
}

/// The number of each answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub accepted: u64,
    pub replayed: u64,
    pub unavailable: u64,
    pub nothing: u64,
}

/// All answers that clients got, by nonce.
#[derive(Default)]
pub struct Ledger {
    told: Mutex<BTreeMap<String, Vec<Told>>>,
    counts: watch::Sender<Counts>,
}

/// Running clients.
pub struct Load {
    ledger: Arc<Ledger>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts this many clients in a session, each of which claims one nonce at a time. Each
    /// nonce begins with `prefix`, and is claimed by several clients; they are shared out among
    /// the callers.
    pub fn start(callers: &[Caller], clients: usize, session: &str, prefix: &str) -> Self {
        Self::in_batches_of(1, callers, clients, session, prefix)
    }

    /// The same, with this many nonces in each request.
    pub fn in_batches_of(
        size: u64,
        callers: &[Caller],
        clients: usize,
        session: &str,
        prefix: &str,
    ) -> Self {
        let (ledger, stop) = (Arc::new(Ledger::default()), watch::Sender::new(false));
        let (next, mut running) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        for caller in callers.iter().cycle().take(clients) {
            let (caller, ledger, stop) = (caller.clone(), Arc::clone(&ledger), stop.subscribe());
            let (next, prefix) = (Arc::clone(&next), prefix.to_owned());
            let session = session.to_owned();
            running.spawn(async move {
                while !*stop.borrow() {
                    let first = next.fetch_add(1, Ordering::Relaxed) / CLAIMS_PER_NONCE * size;
                    let nonces: Vec<_> =
                        (first..first + size).map(|number| format!("{prefix}-{number}")).collect();
                    let told = if let [nonce] = &nonces[..] {
                        vec![claim(&caller, &session, nonce).await]
                    } else {
                        claim_batch(&caller, &session, &nonces).await
                    };
                    let unreachable = matches!(told[..], [Told::Nothing(_), ..]);
                    ledger.note(nonces, told);
                    if unreachable {
                        // Leaves the processor to the service, which has to recover.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            });
        }
        Self { ledger, stop, clients: running }
    }

    pub fn counts(&self) -> Counts {
        *self.ledger.counts.borrow()
    }

    /// Waits until the clients have enough answers.
    pub async fn until(&self, what: &str, enough: impl FnMut(&Counts) -> bool) {
        let mut counts = self.ledger.counts.subscribe();
        let waited = tokio::time::timeout(DEADLINE, counts.wait_for(enough)).await;
        assert!(waited.is_ok(), "waited for {what}, and was told {:?}", self.counts());
    }

    /// Waits until this many more claims were accepted than now.
    pub async fn accepts(&self, more: u64) {
        let before = self.counts().accepted;
        self.until("accepted claims", |counts| counts.accepted >= before + more).await;
    }

    /// Lets every client finish its present claim.
    pub async fn stop(mut self) -> Arc<Ledger> {
        self.stop.send_replace(true);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        self.ledger
    }
}

/// Claims a nonce. Any other answer than the four that [`Told`] names fails the test.
async fn claim(caller: &Caller, session: &str, nonce: &str) -> Told {
    let path = format!("/v1/sessions/{session}/nonces");
    let request = caller.request("POST", &path).json(&json!({ "nonce": nonce }));
    match request.try_send().await {
        Err(error) => Told::Nothing(format!("{error:?}")),
        Ok(answer) => match answer.status {
            201 => Told::Accepted,
            409 => Told::Replayed,
            503 => Told::Unavailable(answer.code().to_owned()),
            _ => panic!("neither accepted nor replayed nor unavailable: {answer:?}"),
        },
    }
}

/// Claims several nonces in one request.
async fn claim_batch(caller: &Caller, session: &str, nonces: &[String]) -> Vec<Told> {
    let request = caller.request("POST", "/v1/claims").json(&batch(session, nonces));
    match request.try_send().await {
        Err(error) => vec![Told::Nothing(format!("{error:?}")); nonces.len()],
        Ok(answer) if answer.status == 503 => {
            vec![Told::Unavailable(answer.code().to_owned()); nonces.len()]
        }
        Ok(answer) => {
            let told = |outcome: String| match outcome.as_str() {
                "accepted" => Told::Accepted,
                "replayed" => Told::Replayed,
                other => panic!("neither accepted nor replayed: {other}"),
            };
            outcomes(&answer.is(200)).into_iter().map(told).collect()
        }
    }
}

fn batch<T: AsRef<str>>(session: &str, nonces: &[T]) -> Value {
    let claim = |nonce: &T| json!({ "session_id": session, "nonce": nonce.as_ref() });
    json!({ "claims": nonces.iter().map(claim).collect::<Vec<_>>() })
}

/// The words of the answer to a batch.
fn outcomes(answer: &Answer) -> Vec<String> {
    let outcome = |result: &Value| result["outcome"].as_str().unwrap().to_owned();
    answer["results"].as_array().unwrap().iter().map(outcome).collect()
}

impl Ledger {
    fn note(&self, nonces: Vec<String>, told: Vec<Told>) {
        self.counts.send_modify(|counts| {
            for told in &told {
                match told {
                    Told::Accepted => counts.accepted += 1,
                    Told::Replayed => counts.replayed += 1,
                    Told::Unavailable(_) => counts.unavailable += 1,
                    Told::Nothing(_) => counts.nothing += 1,
                }
            }
        });
        let mut all = self.told.lock().unwrap();
        for (nonce, told) in nonces.into_iter().zip(told) {
            all.entry(nonce).or_default().push(told);
        }
    }

    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// How often each code came with a 503.
    pub fn codes(&self) -> BTreeMap<String, u64> {
        let mut codes = BTreeMap::new();
        for told in self.told.lock().unwrap().values().flatten() {
            if let Told::Unavailable(code) = told {
                *codes.entry(code.clone()).or_default() += 1;
            }
        }
        codes
    }

    /// Claims every accepted nonce again. Each must be refused.
    pub async fn verify_accepted(&self, caller: &Caller, session: &str) {
        let told = self.told.lock().unwrap().clone();
        let accepted: Vec<_> =
            told.iter().filter(|(_, told)| told.contains(&Told::Accepted)).collect();
        for batch in accepted.chunks(1000) {
            let nonces: Vec<_> = batch.iter().map(|(nonce, _)| nonce.as_str()).collect();
            let outcomes = claim_again(caller, session, &nonces).await;
            assert!(outcomes.iter().all(|outcome| outcome == "replayed"), "{outcomes:?}");
        }
    }

    /// Claims every nonce once more, and compares the outcome with the earlier answers: an accepted
    /// nonce is never accepted again, and a refused claim has spent none. Returns the nonces that
    /// are spent although no client was told so.
    pub async fn verify(&self, caller: &Caller, session: &str) -> Vec<String> {
        let told = self.told.lock().unwrap().clone();
        let nonces: Vec<_> = told.keys().map(String::as_str).collect();
        let mut untold = Vec::new();
        for batch in nonces.chunks(1000) {
            let outcomes = claim_again(caller, session, batch).await;
            for (nonce, outcome) in batch.iter().zip(outcomes) {
                let told = &told[*nonce];
                let accepted = told.iter().filter(|told| **told == Told::Accepted).count();
                let open = told.iter().any(Told::leaves_open);
                let used = match outcome.as_str() {
                    "replayed" => true,
                    "accepted" => false,
                    other => panic!("{nonce} is {other}"),
                };
                assert!(accepted <= 1, "{nonce} was accepted {accepted} times: {told:?}");
                assert!(accepted == 0 || used, "{nonce} was accepted and forgotten: {told:?}");
                assert!(accepted == 1 || !used || open, "{nonce} is used: {told:?}");
                let replayed = told.contains(&Told::Replayed);
                assert!(used || !replayed, "{nonce} was used and is forgotten: {told:?}");
                if used && accepted == 0 {
                    untold.push((*nonce).to_owned());
                }
            }
        }
        untold
    }
}

async fn claim_again(caller: &Caller, session: &str, nonces: &[&str]) -> Vec<String> {
    outcomes(&caller.post("/v1/claims", &batch(session, nonces)).await.is(200))
}

/// A caller with the home's admin token.
pub fn caller(home: &Home, process: &Process) -> Caller {
    caller_with(&home.token(), process)
}

pub fn caller_with(token: &str, process: &Process) -> Caller {
    Caller::new(http_client().build().unwrap(), format!("http://{}", process.api), Some(token))
}

/// A caller on the operations listener.
pub fn ops(process: &Process) -> Caller {
    Caller::new(http_client().build().unwrap(), format!("http://{}", process.ops), None)
}
