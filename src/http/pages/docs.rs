//! `/docs`: Swagger UI, which shows the OpenAPI document.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use super::Page;
use crate::domain::Code;
use crate::http::problem::Problem;

/// What Swagger UI needs: its own files, and the images in its style sheet.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The files of Swagger UI that the page loads.
const FILES: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];

const HEAD: &str = r#"<link rel="stylesheet" href="/docs/swagger-ui.css">
<script src="/docs/swagger-ui-bundle.js" defer></script>
<script src="/pages/start_swagger.js" defer></script>
"#;

const BODY: &str = r#"<noscript><main><p>This page needs JavaScript. <a href="/openapi.json">The OpenAPI document</a> has the same content.</p></main></noscript>
<div id="swagger-ui"></div>
"#;

/// `GET /docs`.
pub(in crate::http) async fn index(_: HttpRequest) -> Result<HttpResponse, Problem> {
    Ok(page())
}

/// `GET /docs/{file}`: a file of Swagger UI; `/docs/` is the page.
pub(in crate::http) async fn file(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let name = request.match_info().query("file");
    if name.is_empty() {
        return Ok(page());
    }
    let file = if FILES.contains(&name) {
        utoipa_swagger_ui::serve(name, Arc::default())
            .map_err(|error| Problem::internal(format!("/docs cannot be served: {error}")))?
    } else {
        None
    };
    let file = file.ok_or_else(|| Problem::new(Code::NotFound, "there is nothing at this path"))?;
    Ok(HttpResponse::Ok()
        .content_type(file.content_type)
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(file.bytes.into_owned()))
}

fn page() -> HttpResponse {
    Page { title: "API", place: "/docs", policy: POLICY, head: HEAD, body: BODY }.into_response()
}
