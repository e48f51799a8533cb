//! The pages that a problem's `type` points to: what a code means, and what to do. HTML for people,
//! JSON for programs.

use std::fmt::Write as _;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::calls::{self, Call};
use super::{Page, STRICT, escape, with_code};
use crate::domain::Code;
use crate::http::code::Meaning;
use crate::http::example;
use crate::http::exchange::PROBLEMS;
use crate::http::problem::Problem;
use crate::http::values::json;

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
        let Meaning { status, title, explanation, remedy, .. } = Meaning::of(code);
        let kind = format!("{PROBLEMS}{}", code.as_str());
        Self { kind, code: code.as_str(), status: status.as_u16(), title, explanation, remedy }
    }

    fn html(&self, example: &str, calls: &[Call]) -> String {
        let Self { code, status, title, .. } = self;
        let (explanation, remedy) = (with_code(self.explanation), with_code(self.remedy));
        format!(
            r#"<main>
<p class="up"><a href="/problems">All problems</a></p>
<h1>{title}</h1>
<p class="facts">{} <code>{code}</code></p>
<h2>What happened</h2>
<p>{explanation}</p>
<h2>What to do</h2>
<p>{remedy}</p>
<h2>Example answer</h2>
<pre tabindex="0"><code>{}</code></pre>
<h2>Calls that give it</h2>
{}</main>
"#,
            badge(*status),
            escape(example),
            list_of_calls(calls),
            title = escape(title),
        )
    }
}

/// `GET /problems/{code}`.
pub(in crate::http) async fn page(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let word = request.match_info().get("code").unwrap_or_default();
    let code = Code::parse(word)
        .ok_or_else(|| Problem::new(Code::NotFound, "there is no such code; see /problems"))?;
    let view = View::of(code);
    if !wants_html(&request) {
        return answer(&view);
    }
    Ok(html(view.title, &view.html(&example::text(code), calls::with(view.code))))
}

/// `GET /problems`: every code.
pub(in crate::http) async fn index(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut views: Vec<_> = Code::ALL.iter().copied().map(View::of).collect();
    if !wants_html(&request) {
        return answer(&views);
    }
    views.sort_by_key(|view| view.status);
    Ok(html("Problems", &list_of_codes(&views)))
}

fn list_of_calls(calls: &[Call]) -> String {
    if calls.is_empty() {
        return "<p>No call of <a href=\"/docs\">the API</a>: the request was for something else.</p>\n"
            .to_owned();
    }
    let mut list = "<ul class=\"calls\">\n".to_owned();
    for call in calls {
        let Call { method, path, summary, status, .. } = call;
        let (place, path, summary) = (escape(&call.place()), escape(path), with_code(summary));
        // Writing to a String cannot fail.
        let _ = writeln!(
            list,
            "<li><a href=\"{place}\"><span class=\"method\">{method}</span> <code>{path}</code></a> {} <span class=\"note\">{summary}</span></li>",
            badge(*status),
        );
    }
    list.push_str("</ul>\n");
    list
}

fn list_of_codes(views: &[View]) -> String {
    let mut list = r#"<main>
<h1>Problems</h1>
<p>Every error is a JSON problem (RFC 9457). Its <code>code</code> is one of these words, and its <code>type</code> leads to the page of the code. A code never changes its meaning.</p>
<ul class="problems">
"#
    .to_owned();
    for View { kind, code, status, title, .. } in views {
        // Writing to a String cannot fail.
        let _ = writeln!(
            list,
            "<li>{} <a href=\"{kind}\"><code>{code}</code></a> <span class=\"note\">{}</span></li>",
            badge(*status),
            escape(title),
        );
    }
    list.push_str("</ul>\n</main>\n");
    list
}

fn badge(status: u16) -> String {
    let class = if status < 500 { "status" } else { "status failure" };
    format!("<span class=\"{class}\">{status}</span>")
}

fn wants_html(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn answer(body: &impl Serialize) -> Result<HttpResponse, Problem> {
    Ok(by_accept(json(StatusCode::OK, body)?))
}

fn html(title: &str, body: &str) -> HttpResponse {
    let page = Page { title, place: "/problems", policy: STRICT, head: "", body };
    by_accept(page.into_response())
}

/// Which form an answer has depends on `Accept`; caches must know.
fn by_accept(mut response: HttpResponse) -> HttpResponse {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}
