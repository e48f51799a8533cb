//! Requests that are built once and then only patched, and answers of which only the checked parts
//! are read. HTTP/1.1 and Redis' RESP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Result;

/// For throw-away databases only.
pub const TOKEN: &str = "og_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Where a template takes a fresh random nonce: 128 bits in base64url.
pub const NONCE: &str = "NNNNNNNNNNNNNNNNNNNNNN";
/// Where a template takes one of the given ids.
pub const ID: &str = "iiiiiiii-iiii-iiii-iiii-iiiiiiiiiiii";

/// How a server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Done,
    /// 503 `overloaded`, with `Retry-After`.
    Refused,
}

/// One connection's side of the conversation.
pub trait Client: Send {
    /// Makes the next request, and returns it.
    fn next(&mut self);
    fn request(&self) -> &[u8];
    /// Reads an answer: `None` when it is not complete yet.
    ///
    /// # Errors
    /// When it is not the expected one.
    fn answer(&mut self, input: &[u8]) -> Result<Option<Reply>>;
}

/// A request whose nonces and ids are overwritten before each sending.
pub struct Template {
    bytes: Vec<u8>,
    nonces: Vec<Range<usize>>,
    ids: Vec<Range<usize>>,
    known: Arc<[String]>,
    random: fastrand::Rng,
}

impl Template {
    /// `known` are the ids to choose from at random, once for each request.
    pub fn new(text: &str, known: &Arc<[String]>) -> Self {
        let places =
            |what: &str| text.match_indices(what).map(|(at, _)| at..at + what.len()).collect();
        Self {
            bytes: text.as_bytes().to_vec(),
            nonces: places(NONCE),
            ids: places(ID),
            known: Arc::clone(known),
            random: fastrand::Rng::new(),
        }
    }

    fn patch(&mut self) {
        for place in &self.nonces {
            let nonce = self.random.u128(..).to_le_bytes();
            let written = URL_SAFE_NO_PAD.encode_slice(nonce, &mut self.bytes[place.clone()]);
            debug_assert_eq!(written, Ok(NONCE.len()));
        }
        if let Some(id) = self.random.choice(&*Arc::clone(&self.known)) {
            self.put_id(id);
        }
    }

    fn put_id(&mut self, id: &str) {
        for place in &self.ids {
            self.bytes[place.clone()].copy_from_slice(id.as_bytes());
        }
    }
}

/// The text of an HTTP/1.1 request with a token.
pub fn http(method: &str, path: &str, body: &str) -> String {
    http_with(method, path, "", body)
}

/// The same with further lines in its head, each with its end.
pub fn http_with(method: &str, path: &str, lines: &str, body: &str) -> String {
    let content = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
    };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
         {lines}{content}\r\n{body}"
    )
}

/// A claim of a fresh nonce in one of the sessions.
pub fn single_claim() -> String {
    let body = format!(r#"{{"nonce":"{NONCE}"}}"#);
    http("POST", &format!("/v1/sessions/{ID}/nonces"), &body)
}

/// This many claims of fresh nonces, in one of the sessions.
pub fn batch_of_claims(size: usize) -> String {
    let claim = format!(r#"{{"session_id":"{ID}","nonce":"{NONCE}"}}"#);
    let body = format!(r#"{{"claims":[{}]}}"#, vec![claim; size].join(","));
    http("POST", "/v1/claims", &body)
}

/// The same HTTP request again and again, patched, with one expected status.
pub struct HttpClient {
    template: Template,
    status: u16,
    /// How many claims the answer must say are accepted.
    accepted: usize,
    /// The last request was refused as overloaded, and is sent again.
    refused: bool,
}

impl HttpClient {
    pub fn boxed(
        text: &str,
        known: &Arc<[String]>,
        status: u16,
        accepted: usize,
    ) -> Box<dyn Client> {
        Box::new(Self { template: Template::new(text, known), status, accepted, refused: false })
    }
}

impl Client for HttpClient {
    fn next(&mut self) {
        if !std::mem::take(&mut self.refused) {
            self.template.patch();
        }
    }

    fn request(&self) -> &[u8] {
        &self.template.bytes
    }

    fn answer(&mut self, input: &[u8]) -> Result<Option<Reply>> {
        let Some(answer) = HttpAnswer::read(input)? else { return Ok(None) };
        if answer.status == 503 && answer.retry_after && contains(answer.body, OVERLOADED) {
            self.refused = true;
            return Ok(Some(Reply::Refused));
        }
        answer.must_be(self.status)?;
        if self.accepted > 0 {
            let words = answer.body.windows(ACCEPTED.len());
            if words.filter(|word| *word == ACCEPTED).count() != self.accepted {
                return Err(answer.unexpected());
            }
        }
        Ok(Some(Reply::Done))
    }
}

const ACCEPTED: &[u8] = br#""accepted""#;
const OVERLOADED: &[u8] = br#""overloaded""#;

fn contains(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len()).any(|part| part == word)
}

/// In turn: opens a session with a new id, and ends it.
pub struct OpenAndEnd {
    open: Template,
    end: Template,
    ending: bool,
}

impl OpenAndEnd {
    pub fn boxed() -> Box<dyn Client> {
        let body = format!(
            r#"{{"id":"{ID}","client_did":"did:web:a.example","server_did":"did:web:b.example"}}"#
        );
        let template = |text: &str| Template::new(text, &Arc::default());
        Box::new(Self {
            open: template(&http("POST", "/v1/sessions", &body)),
            end: template(&http("DELETE", &format!("/v1/sessions/{ID}"), "")),
            // So that the first request is an opening.
            ending: true,
        })
    }
}

impl Client for OpenAndEnd {
    fn next(&mut self) {
        self.ending = !self.ending;
        if !self.ending {
            let id = uuid::Uuid::now_v7().to_string();
            self.open.put_id(&id);
            self.end.put_id(&id);
        }
    }

    fn request(&self) -> &[u8] {
        if self.ending { &self.end.bytes } else { &self.open.bytes }
    }

    fn answer(&mut self, input: &[u8]) -> Result<Option<Reply>> {
        let Some(answer) = HttpAnswer::read(input)? else { return Ok(None) };
        answer.must_be(if self.ending { 204 } else { 201 })?;
        Ok(Some(Reply::Done))
    }
}

/// `SET session:nonce 1 NX EX 3600`, so many at once.
pub struct RedisClient {
    template: Template,
    answer: Vec<u8>,
}

impl RedisClient {
    pub fn boxed(sessions: &Arc<[String]>, pipeline: usize) -> Box<dyn Client> {
        let key = format!("{ID}:{NONCE}");
        let length = key.len();
        let text = format!(
            "*6\r\n$3\r\nSET\r\n${length}\r\n{key}\r\n$1\r\n1\r\n$2\r\nNX\r\n$2\r\nEX\r\n\
             $4\r\n3600\r\n"
        );
        let template = Template::new(&text.repeat(pipeline), sessions);
        Box::new(Self { template, answer: b"+OK\r\n".repeat(pipeline) })
    }
}

impl Client for RedisClient {
    fn next(&mut self) {
        self.template.patch();
    }

    fn request(&self) -> &[u8] {
        &self.template.bytes
    }

    fn answer(&mut self, input: &[u8]) -> Result<Option<Reply>> {
        match input {
            all if all == self.answer => Ok(Some(Reply::Done)),
            partial if self.answer.starts_with(partial) => Ok(None),
            other => Err(format!("unexpected answer: {}", String::from_utf8_lossy(other)).into()),
        }
    }
}

/// A complete answer.
pub struct HttpAnswer<'a> {
    pub status: u16,
    retry_after: bool,
    pub body: &'a [u8],
}

impl<'a> HttpAnswer<'a> {
    /// `None` when it is not complete yet.
    pub fn read(input: &'a [u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(input)? else { return Ok(None) };
        let status = response.code.unwrap_or_default();
        let header = |name: &str| {
            response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))
        };
        let length = match header("content-length") {
            Some(length) => std::str::from_utf8(length.value)?.parse()?,
            None if status == 204 => 0,
            None => return Err(format!("status {status} without Content-Length").into()),
        };
        let retry_after = header("retry-after").is_some();
        match input.len().checked_sub(head + length) {
            None => Ok(None),
            Some(0) => Ok(Some(Self { status, retry_after, body: &input[head..] })),
            Some(more) => Err(format!("{more} bytes after an answer").into()),
        }
    }

    pub fn must_be(&self, status: u16) -> Result<()> {
        if self.status == status { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> Box<dyn std::error::Error + Send + Sync> {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]);
        format!("unexpected answer: status {}, {body}", self.status).into()
    }
}

/// One request on a connection of its own; the answer's body.
pub fn call(address: SocketAddr, request: &str, status: u16) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut input = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        if let Some(answer) = HttpAnswer::read(&input)? {
            answer.must_be(status)?;
            return Ok(answer.body.to_vec());
        }
        match stream.read(&mut part)? {
            0 => return Err("the connection was closed without an answer".into()),
            length => input.extend_from_slice(&part[..length]),
        }
    }
}
