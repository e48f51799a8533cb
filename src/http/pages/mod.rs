//! The pages for people: `/docs`, `/problems`, and the files that both load. Everything is in the
//! binary, so the pages work without internet. No page has an inline script or style.

mod calls;
pub(super) mod docs;
pub(super) mod problems;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use super::problem::Problem;
use crate::domain::Code;

const STYLE: &str = include_str!("style.css");
const ICON: &str = include_str!("icon.svg");
const START_SWAGGER: &str = include_str!("start_swagger.js");

/// A page that needs only the shared style sheet and the icon.
const STRICT: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The entries of the bar at the top of each page.
const PLACES: [(&str, &str); 3] =
    [("/docs", "API"), ("/problems", "Problems"), ("/openapi.json", "OpenAPI")];

/// One page: what is its own, beside the bar.
struct Page<'a> {
    title: &'a str,
    /// The entry of the bar that the page belongs to.
    place: &'a str,
    policy: HeaderValue,
    /// More of the head: style sheets and scripts.
    head: &'a str,
    body: &'a str,
}

impl Page<'_> {
    fn into_response(self) -> HttpResponse {
        let Self { title, place, policy, head, body } = self;
        let title = escape(title);
        let places: Vec<_> = PLACES
            .iter()
            .map(|(path, name)| {
                let current = if *path == place { " aria-current=\"true\"" } else { "" };
                format!("<a href=\"{path}\"{current}>{name}</a>")
            })
            .collect();
        let places = places.concat();
        let page = format!(
            r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · onceguard</title>
<link rel="icon" type="image/svg+xml" href="/pages/icon.svg">
{head}<link rel="stylesheet" href="/pages/style.css">
</head>
<body>
<header class="bar"><a class="name" href="/docs">{ICON}onceguard</a><nav>{places}</nav></header>
{body}</body>
</html>
"#
        );
        HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header((header::CONTENT_SECURITY_POLICY, policy))
            .body(page)
    }
}

/// `GET /pages/{file}`: what the pages load.
pub(super) async fn file(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (content_type, text) = match request.match_info().query("file") {
        "style.css" => ("text/css; charset=utf-8", STYLE),
        "icon.svg" => ("image/svg+xml", ICON),
        "start_swagger.js" => ("text/javascript; charset=utf-8", START_SWAGGER),
        _ => return Err(Problem::new(Code::NotFound, "there is nothing at this path")),
    };
    Ok(HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(text))
}

/// Text for an element or a quoted attribute.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text for an element, with what stands between backticks as code.
fn with_code(text: &str) -> String {
    let text = escape(text);
    let parts = text.split('`').enumerate().flat_map(|(index, part)| match index % 2 {
        0 => ["", part, ""],
        _ => ["<code>", part, "</code>"],
    });
    parts.collect()
}
