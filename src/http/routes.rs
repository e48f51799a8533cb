//! The whole table: path, method, the scope that a token needs and whether agents may, handler.

use std::future::Future;
use std::sync::LazyLock;

use actix_web::guard;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::auth::{Access, or_agent};
use super::call::Call;
use super::code::Code;
use super::exchange::Exchange;
use super::problem::Problem;
use super::{
    claims, dids, docs, forward_auth, identifiers, nonces, pages, sessions, stats, verify,
};
use crate::domain::TokenScope;

/// Registers the API.
pub fn api(config: &mut ServiceConfig) {
    register(config, table());
}

/// The beginning of a path that some route has, too, without parameters.
pub(super) fn known_part(path: &str) -> &str {
    static PATTERNS: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| table().iter().map(|path| path.pattern).collect());
    let alike = PATTERNS.iter().map(|pattern| {
        let segments = pattern.split('/').zip(path.split('/'));
        segments.take_while(|(known, given)| known == given && !known.contains('{')).count()
    });
    first_segments(path, alike.max().unwrap_or_default())
}

/// The first segments of a path, with the slash after them.
pub(super) fn first_segments(path: &str, count: usize) -> &str {
    let length = path.split_inclusive('/').take(count).map(str::len).sum();
    path.get(..length).unwrap_or_default()
}

/// The paths that are asked for most come first: they are tried in this order.
#[rustfmt::skip]
fn table() -> Vec<Path> {
    use TokenScope::{Admin, Dids, Nonces, Revoke, SessionKeys, Sessions, Verify};
    vec![
        Path::new("/v1/verify").post(Verify, verify::verify),
        Path::new("/v1/claims").post(or_agent(Nonces), claims::claim),
        Path::new("/v1/sessions").post(or_agent(Sessions), sessions::open).get(or_agent(Sessions), sessions::list),
        Path::new("/v1/sessions/end").post(or_agent(Sessions), sessions::end_all),
        Path::new("/v1/sessions/{id}/nonces").post(or_agent(Nonces), nonces::claim),
        Path::new("/v1/sessions/{id}")
            .get(or_agent(Sessions), sessions::read).patch(Sessions, sessions::change).delete(or_agent(Sessions), sessions::end),
        Path::new("/v1/sessions/{id}/key").get(or_agent(SessionKeys), sessions::key),
        Path::new("/v1/sessions/{id}/touch").post(or_agent(Sessions), sessions::touch),
        Path::new("/v1/sessions/{id}/nonces/{nonce}").get(Nonces, nonces::used),
        Path::new("/v1/dids").get(Dids, dids::list),
        Path::new("/v1/dids/{did}").get(Dids, dids::read).put(Dids, dids::put).delete(Dids, dids::forget),
        Path::new("/v1/dids/{did}/revoke").post(or_agent(Revoke), dids::revoke),
        Path::new("/v1/dids/{did}/refresh").post(Dids, dids::refresh),
        Path::new("/1.0/identifiers/{did}").public(identifiers::resolve),
        Path::new("/1.0/methods").public(identifiers::methods),
        Path::new("/1.0/properties").public(identifiers::properties),
        Path::new("/v1/stats").get(Admin, stats::stats),
        // These ask for a credential themselves:
        Path::new("/v1/forward-auth").any(forward_auth::forward_auth),
        Path::new("/v1/forward-auth/{tail:.*}").any(forward_auth::forward_auth),
        // Without a credential:
        Path::new("/openapi.json").public(docs::openapi),
        Path::new("/docs").public(pages::docs::index),
        Path::new("/docs/{file:.*}").public(pages::docs::file),
        Path::new("/pages/{file}").public(pages::file),
        Path::new("/problems").public(pages::problems::index),
        Path::new("/problems/{code}").public(pages::problems::page),
    ]
}

/// One path of a table, with its methods.
pub(super) struct Path {
    pattern: &'static str,
    methods: Vec<Method>,
    resource: Resource,
}

impl Path {
    pub(super) fn new(pattern: &'static str) -> Self {
        Self { pattern, methods: Vec::new(), resource: web::resource(pattern) }
    }

    fn get<F: Answer>(self, access: impl Into<Access>, handler: fn(Call) -> F) -> Self {
        self.guarded(Method::GET, access.into(), handler)
    }

    fn post<F: Answer>(self, access: impl Into<Access>, handler: fn(Call) -> F) -> Self {
        self.guarded(Method::POST, access.into(), handler)
    }

    fn put<F: Answer>(self, access: impl Into<Access>, handler: fn(Call) -> F) -> Self {
        self.guarded(Method::PUT, access.into(), handler)
    }

    fn patch<F: Answer>(self, access: impl Into<Access>, handler: fn(Call) -> F) -> Self {
        self.guarded(Method::PATCH, access.into(), handler)
    }

    fn delete<F: Answer>(self, access: impl Into<Access>, handler: fn(Call) -> F) -> Self {
        self.guarded(Method::DELETE, access.into(), handler)
    }

    /// A method that only callers with this access may use.
    fn guarded<F: Answer>(self, method: Method, access: Access, handler: fn(Call) -> F) -> Self {
        let pattern = self.pattern;
        self.with(method, move |route| {
            route.to(move |request: HttpRequest, payload: web::Payload| async move {
                let exchange = Exchange::of(&request);
                exchange.set_route(pattern);
                let answer = match Call::admit(request, payload, access, &exchange).await {
                    Ok(call) => handler(call).await,
                    Err(refused) => Err(refused),
                };
                answer.unwrap_or_else(|problem| exchange.refuse(problem))
            })
        })
    }

    /// `GET` for everybody.
    pub(super) fn public<F: Answer>(self, handler: fn(HttpRequest) -> F) -> Self {
        let pattern = self.pattern;
        self.with(Method::GET, move |route| route.to(answer(pattern, handler)))
    }

    /// Every method, for everybody. It is documented as `GET`.
    fn any<F: Answer>(mut self, handler: fn(HttpRequest) -> F) -> Self {
        let pattern = self.pattern;
        self.resource = self.resource.route(web::route().to(answer(pattern, handler)));
        self.methods.push(Method::GET);
        self
    }

    /// Adds a method; `HEAD` comes with `GET`, and actix leaves out the body.
    fn with(mut self, method: Method, to: impl FnOnce(Route) -> Route) -> Self {
        let route = match method {
            Method::GET => web::route().guard(guard::Any(guard::Get()).or(guard::Head())),
            _ => web::method(method.clone()),
        };
        self.resource = self.resource.route(to(route));
        self.methods.push(method);
        self
    }

    fn allow(&self) -> String {
        let names = self.methods.iter().map(|method| match *method {
            Method::GET => "GET, HEAD",
            _ => method.as_str(),
        });
        names.collect::<Vec<_>>().join(", ")
    }
}

/// A handler that nobody's credential was checked for.
fn answer<F: Answer>(
    pattern: &'static str,
    handler: fn(HttpRequest) -> F,
) -> impl Fn(HttpRequest) -> LocalBoxFuture<'static, HttpResponse> + Clone {
    move |request| {
        async move {
            let exchange = Exchange::of(&request);
            exchange.set_route(pattern);
            handler(request).await.unwrap_or_else(|problem| exchange.refuse(problem))
        }
        .boxed_local()
    }
}

/// What a handler gives back.
pub(super) trait Answer: Future<Output = Result<HttpResponse, Problem>> + 'static {}
impl<F: Future<Output = Result<HttpResponse, Problem>> + 'static> Answer for F {}

/// Registers a table; whatever it does not have is 404, or 405 with `Allow`.
pub(super) fn register(config: &mut ServiceConfig, table: Vec<Path>) {
    for path in table {
        let allow = path.allow();
        let pattern = path.pattern;
        config.service(path.resource.default_service(web::to(move |request: HttpRequest| {
            let answer = method_not_allowed(&request, pattern, &allow);
            async { answer }
        })));
    }
    config.default_service(web::to(not_found));
}

fn method_not_allowed(request: &HttpRequest, pattern: &'static str, allow: &str) -> HttpResponse {
    let exchange = Exchange::of(request);
    exchange.set_route(pattern);
    let detail = format!("this path takes {allow}");
    let allow = HeaderValue::from_str(allow).unwrap_or_else(|_| HeaderValue::from_static(""));
    exchange.refuse(Problem::new(Code::MethodNotAllowed, detail).with_header(header::ALLOW, allow))
}

async fn not_found(request: HttpRequest) -> HttpResponse {
    let problem = Problem::new(Code::NotFound, "there is nothing at this path");
    Exchange::of(&request).refuse(problem)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Paths that are for people, and those that are other names of a path.
    const UNDOCUMENTED: [&str; 6] = [
        "/docs",
        "/docs/{file:.*}",
        "/pages/{file}",
        "/problems",
        "/problems/{code}",
        "/v1/forward-auth/{tail:.*}",
    ];

    #[test]
    fn the_openapi_document_has_every_route_and_no_other() {
        let routes: BTreeSet<String> = table()
            .iter()
            .filter(|path| !UNDOCUMENTED.contains(&path.pattern))
            .flat_map(|path| path.methods.iter().map(|m| format!("{m} {}", path.pattern)))
            .collect();
        assert_eq!(docs::operations(), routes);
    }
}
