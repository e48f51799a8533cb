//! The example answer of each code. It is made as every real answer is, by `Problem`.

use actix_web::HttpResponse;
use actix_web::body::MessageBody as _;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use chrono::DateTime;
use serde_json::Value;

use super::code::Meaning;
use super::exchange::PROBLEMS;
use super::problem::Problem;
use crate::domain::{Code, End, EndReason};
use crate::services::Denied;

/// 2026-01-02T03:04:05.678901Z, in microseconds.
const TIME: i64 = 1_767_323_045_678_901;
const REQUEST_ID: &str = "0198f2a4-6d02-7b11-8f3c-2d5e9a4b7c10";

/// The body of an answer with this code and this status.
pub(super) fn body(code: Code, status: u16) -> Value {
    let status = StatusCode::from_u16(status).unwrap_or(Meaning::of(code).status);
    serde_json::from_slice(&bytes_of(answer(code, status))).unwrap_or_default()
}

/// The whole answer with the code's usual status, as text.
pub(super) fn text(code: Code) -> String {
    let status = Meaning::of(code).status;
    let answer = answer(code, status);
    let headers = answer.headers().iter();
    let mut headers: Vec<_> = headers
        .filter_map(|(name, value)| Some(format!("{name}: {}\n", value.to_str().ok()?)))
        .collect();
    headers.sort_unstable();
    let headers = headers.concat();
    let body = indented(&String::from_utf8_lossy(&bytes_of(answer)));
    format!("HTTP/1.1 {status}\n{headers}\n{body}\n")
}

fn bytes_of(answer: HttpResponse) -> Bytes {
    answer.into_body().try_into_bytes().unwrap_or_default()
}

/// JSON with line breaks, its members in the order in which they are sent.
fn indented(json: &str) -> String {
    let mut text = String::new();
    let mut depth = 0_usize;
    let (mut in_string, mut escaped) = (false, false);
    let new_line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
    };
    for c in json.chars() {
        if in_string {
            text.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if matches!(c, '}' | ']') {
            depth = depth.saturating_sub(1);
            new_line(&mut text, depth);
        }
        text.push(c);
        match c {
            '{' | '[' => {
                depth = depth.saturating_add(1);
                new_line(&mut text, depth);
            }
            ',' => new_line(&mut text, depth),
            ':' => text.push(' '),
            '"' => in_string = true,
            _ => {}
        }
    }
    text
}

fn answer(code: Code, status: StatusCode) -> HttpResponse {
    problem(code).with_status(status).into_response(PROBLEMS, REQUEST_ID)
}

fn problem(code: Code) -> Problem {
    let at = DateTime::from_timestamp_micros(TIME).unwrap_or_default();
    match code {
        Code::ValidationFailed => Problem::invalid_field("/nonce", "is missing"),
        Code::NonceReplayed => Problem::replayed(at),
        Code::SignatureReplayed => {
            Problem::denied(&Denied::Replayed { first_used_at: at }, |code| {
                Meaning::of(code).status
            })
        }
        Code::SignatureNotAParty => Problem::not_a_party(),
        Code::SessionEnded => Problem::over(End { at, reason: EndReason::Ended }),
        Code::SessionExpired => Problem::over(End { at, reason: EndReason::Idle }),
        Code::MethodNotAllowed => Problem::new(code, "this path takes GET, HEAD")
            .with_header(header::ALLOW, HeaderValue::from_static("GET, HEAD")),
        code => Problem::new(code, Meaning::of(code).explanation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indented_json_is_the_same_json() {
        for code in Code::ALL.iter().copied() {
            let text = text(code);
            let (_, shown) = text.split_once("\n\n").unwrap();
            let value: Value = serde_json::from_str(shown).unwrap();
            assert_eq!(value, body(code, Meaning::of(code).status.as_u16()), "{shown}");
        }
        let json = r#"{"a":"\\\"{,:","b":[1,{"c":null}]}"#;
        let shown = "{\n  \"a\": \"\\\\\\\"{,:\",\n  \"b\": [\n    1,\n    {\n      \"c\": null\n    }\n  ]\n}";
        assert_eq!(indented(json), shown);
    }
}
