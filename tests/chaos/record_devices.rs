//! Two devices of one agent, each with an instance of its own where there can be two, edit the same
//! record, in turns and at once. No edit is lost, and the feed of each device misses nothing.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onceguard::clock::Clock;
use onceguard::domain::KeyType;
use rstest::rstest;
use serde_json::{Value, json};

use crate::load::caller_with;
use crate::records::sealed;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Answer, Caller, Home, Message};

const TURNS: usize = 4;
const AT_ONCE: usize = 12;

struct Device {
    name: &'static str,
    agent: Agent,
    caller: Caller,
    /// The notes as this device last saw them, and their `ETag`.
    notes: BTreeSet<String>,
    etag: Option<String>,
    /// What its feed has told: the version of each record that is there.
    followed: BTreeMap<String, Value>,
    since: Option<String>,
}

impl Device {
    fn new(name: &'static str, agent: &Agent, caller: Caller) -> Self {
        let (agent, notes, followed) = (agent.clone(), BTreeSet::new(), BTreeMap::new());
        Self { name, agent, caller, notes, etag: None, followed, since: None }
    }

    async fn send(
        &self,
        (method, path): (&str, &str),
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let url = format!("{}/v1/records/{}{path}", self.caller.base(), self.agent.did);
        let mut message = Message::new(method, &url);
        if let Some(body) = body {
            message = message.json(body);
        }
        let message = message.signed(&self.agent, Clock::system().now());
        let mut request = message.to_http(&self.caller);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send().await
    }

    /// Adds a note. If the other device was first, reads what it wrote, and adds the note to that.
    async fn edit(&mut self, note: &str) {
        loop {
            let mut notes = self.notes.clone();
            notes.insert(format!("{}-{note}", self.name));
            let text = notes.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            let etag = self.etag.clone();
            let precondition = match &etag {
                Some(etag) => ("if-match", etag.as_str()),
                None => ("if-none-match", "*"),
            };
            let path = ("PUT", "/sync/notes");
            let answer = self.send(path, Some(&sealed(&text)), &[precondition]).await;
            if answer.status == 412 {
                self.read().await;
                continue;
            }
            assert!([200, 201].contains(&answer.status), "{answer:?}");
            self.etag = answer.header("etag").map(str::to_owned);
            self.notes = notes;
            return;
        }
    }

    async fn read(&mut self) {
        let answer = self.send(("GET", "/sync/notes"), None, &[]).await.is(200);
        let bytes = STANDARD.decode(answer.text_of("ciphertext")).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        self.notes = text.split(',').map(str::to_owned).collect();
        self.etag = answer.header("etag").map(str::to_owned);
    }

    /// Writes a record of its own, and deletes it again if `number` is odd.
    async fn write_own(&self, number: usize) {
        let path = format!("/backup/{}-{}", self.name, number / 2);
        if number.is_multiple_of(2) {
            let put = ("PUT", path.as_str());
            let none = [("if-none-match", "*")];
            self.send(put, Some(&sealed(self.name)), &none).await.is(201);
        } else {
            self.send(("DELETE", &path), None, &[("if-match", "*")]).await.is(204);
        }
    }

    /// Reads on in the feed, until there is no more.
    async fn follow(&mut self) {
        loop {
            let since =
                self.since.as_ref().map_or(String::new(), |since| format!("&since={since}"));
            let path = format!("?fields=meta&limit=3{since}");
            let page = self.send(("GET", &path), None, &[]).await.is(200);
            for item in page["items"].as_array().unwrap() {
                let key = format!("{}/{}", item["kind"], item["id"]);
                if item["deleted"] == true {
                    self.followed.remove(&key);
                } else {
                    self.followed.insert(key, item["version"].clone());
                }
            }
            self.since = Some(page.text_of("next_cursor"));
            if page["has_more"] == false {
                return;
            }
        }
    }

    async fn edit_and_follow(mut self) -> Self {
        for number in 0..AT_ONCE {
            self.edit(&format!("at-once-{number}")).await;
            self.write_own(number).await;
            self.follow().await;
        }
        self
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_devices_lose_no_edit_and_miss_no_change(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await;
    // Only one process may serve an SQLite file.
    let other = (on == Postgres).then(|| home.another());
    let mut processes = vec![home.start().await];
    if let Some(other) = &other {
        processes.push(other.start().await);
    }
    let agent = Agent::new(KeyType::Ed25519);
    let [first, last] = [processes.first(), processes.last()]
        .map(|process| caller_with("", process.unwrap()).with_token(None));
    let mut laptop = Device::new("laptop", &agent, first);
    let mut phone = Device::new("phone", &agent, last);
    for turn in 0..TURNS {
        for device in [&mut laptop, &mut phone] {
            // Always with the ETag of its own last edit, which the other one has replaced.
            device.edit(&format!("in-turn-{turn}")).await;
            device.follow().await;
        }
    }
    let (laptop, phone) =
        tokio::join!(tokio::spawn(laptop.edit_and_follow()), tokio::spawn(phone.edit_and_follow()));

    let mut expected = BTreeSet::new();
    for name in ["laptop", "phone"] {
        expected.extend((0..TURNS).map(|turn| format!("{name}-in-turn-{turn}")));
        expected.extend((0..AT_ONCE).map(|number| format!("{name}-at-once-{number}")));
    }
    for device in [laptop, phone] {
        let mut device = device.unwrap();
        device.follow().await;
        device.read().await;
        assert_eq!(device.notes, expected);
        let edits = json!(2 * (TURNS + AT_ONCE));
        assert_eq!(device.followed["\"sync\"/\"notes\""], edits, "each edit made one version");
        let followed = std::mem::take(&mut device.followed);
        device.since = None;
        device.follow().await;
        assert_eq!(followed, device.followed);
        assert_eq!(followed.len(), 1, "each deleted what it wrote: {followed:?}");
    }
    for process in processes {
        assert_eq!(process.stop().await.code(), 0);
    }
}
