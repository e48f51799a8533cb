//! The pages that a problem's `type` points to: what a code means, and what to do. HTML for people,
//! JSON for everybody else.

use std::fmt::Write as _;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::code::Meaning;
use super::problem::Problem;
use super::values::json;
use crate::domain::Code;

/// What the service says of a code.
#[derive(Serialize)]
struct View {
    #[serde(rename = "type")]
    kind: String,
    code: &'static str,
    status: u16,
    title: &'static str,
    explanation: &'static str,
    remedy: &'static str,
}

impl View {
    fn of(code: Code) -> Self {
        let word = code.as_str();
        let Meaning { status, title, explanation, remedy, .. } = Meaning::of(code);
        let kind = format!("/problems/{word}");
        Self { kind, code: word, status: status.as_u16(), title, explanation, remedy }
    }

    fn html(&self) -> String {
        format!(
            "<h1>{}</h1>\n<p>Code <code>{}</code>, status {}.</p>\n<p>{}</p>\n<p><strong>What to do:</strong> {}</p>\n<p><a href=\"/problems\">All codes</a></p>\n",
            self.title,
            self.code,
            self.status,
            escape(self.explanation),
            escape(self.remedy),
        )
    }
}

/// `GET /problems/{code}`.
pub(super) async fn page(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let word = request.match_info().get("code").unwrap_or_default();
    let code = Code::parse(word)
        .ok_or_else(|| Problem::new(Code::NotFound, "there is no such code; see /problems"))?;
    let view = View::of(code);
    if wants_html(&request) { Ok(html(view.title, &view.html())) } else { answer(&view) }
}

/// `GET /problems`: every code.
pub(super) async fn index(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let views: Vec<_> = Code::ALL.iter().copied().map(View::of).collect();
    if !wants_html(&request) {
        return answer(&views);
    }
    let mut list = "<h1>Problems</h1>\n<ul>\n".to_owned();
    for View { kind, code, status, title, .. } in &views {
        // Writing to a String cannot fail.
        let _ =
            writeln!(list, "<li>{status} <a href=\"{kind}\"><code>{code}</code></a>: {title}</li>");
    }
    list.push_str("</ul>\n");
    Ok(html("Problems", &list))
}

fn wants_html(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn answer(body: &impl Serialize) -> Result<HttpResponse, Problem> {
    let mut response = json(StatusCode::OK, body)?;
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

fn html(title: &str, body: &str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::VARY, "Accept"))
        .body(format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title} · onceguard</title>\n{body}</html>\n"
        ))
}

/// The texts are our own; only what HTML would read otherwise is escaped.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_well_formed_for_every_code() {
        for code in Code::ALL.iter().copied() {
            let page = View::of(code).html();
            assert_eq!(page.matches('<').count(), page.matches('>').count(), "{page}");
            assert!(!View::of(code).title.contains(['<', '&']));
        }
    }
}
