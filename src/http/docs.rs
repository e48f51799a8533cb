//! `/docs`: Swagger UI on the OpenAPI document. Everything is in the binary: it works without
//! internet.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};

use super::problem::Problem;
use crate::domain::Code;

/// What Swagger UI needs: its own files, and the styles it sets on elements.
const DOCS_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

/// `GET /docs`: the same page as `/docs/`, with its files one folder further down.
pub(super) async fn index(_: HttpRequest) -> Result<HttpResponse, Problem> {
    let (content_type, page) = swagger_file("index.html")?;
    let page = String::from_utf8_lossy(&page).replacen("<head>", "<head><base href=\"docs/\">", 1);
    Ok(page_file(&content_type, page.into()))
}

/// `GET /docs/{file}`: Swagger UI's own files.
pub(super) async fn file(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (content_type, bytes) = swagger_file(request.match_info().query("file"))?;
    Ok(page_file(&content_type, bytes))
}

fn page_file(content_type: &str, bytes: Bytes) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, DOCS_POLICY))
        .body(bytes)
}

/// A file of Swagger UI, and its type.
fn swagger_file(name: &str) -> Result<(String, Bytes), Problem> {
    let config = utoipa_swagger_ui::Config::from("../openapi.json").validator_url("none");
    let file = utoipa_swagger_ui::serve(name, Arc::new(config))
        .map_err(|error| Problem::internal(format!("/docs cannot be served: {error}")))?
        .ok_or_else(|| Problem::new(Code::NotFound, "there is nothing at this path"))?;
    Ok((file.content_type, Bytes::from(file.bytes.into_owned())))
}
