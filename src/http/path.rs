//! What a table of routes is made of: paths with their methods, who may use each, and handlers.

use std::future::Future;

use actix_web::guard;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::auth::Access;
use super::call::Call;
use super::entry::Entry;
use super::exchange::Exchange;
use super::problem::Problem;
use crate::domain::Code;

/// One path of a table, with its methods.
pub(super) struct Path {
    pub(super) pattern: &'static str,
    /// `None` is for everybody.
    pub(super) methods: Vec<(Method, Option<Access>)>,
    resource: Resource,
}

impl Path {
    pub(super) fn new(pattern: &'static str) -> Self {
        Self { pattern, methods: Vec::new(), resource: web::resource(pattern) }
    }

    pub(super) fn get<F: Answer>(self, entry: impl Into<Entry>, handler: fn(Call) -> F) -> Self {
        self.guarded(Method::GET, entry.into(), handler)
    }

    pub(super) fn post<F: Answer>(self, entry: impl Into<Entry>, handler: fn(Call) -> F) -> Self {
        self.guarded(Method::POST, entry.into(), handler)
    }

    pub(super) fn put<F: Answer>(self, entry: impl Into<Entry>, handler: fn(Call) -> F) -> Self {
        self.guarded(Method::PUT, entry.into(), handler)
    }

    pub(super) fn patch<F: Answer>(self, entry: impl Into<Entry>, handler: fn(Call) -> F) -> Self {
        self.guarded(Method::PATCH, entry.into(), handler)
    }

    pub(super) fn delete<F: Answer>(self, entry: impl Into<Entry>, handler: fn(Call) -> F) -> Self {
        self.guarded(Method::DELETE, entry.into(), handler)
    }

    /// A method that only callers with this access may use.
    fn guarded<F: Answer>(self, method: Method, entry: Entry, handler: fn(Call) -> F) -> Self {
        let pattern = self.pattern;
        self.with(method, Some(entry.access), move |route| {
            route.to(move |request: HttpRequest, payload: web::Payload| async move {
                let exchange = Exchange::of(&request);
                exchange.set_route(pattern);
                let answer = match Call::admit(request, payload, entry, &exchange).await {
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
        self.with(Method::GET, None, move |route| route.to(answer(pattern, handler)))
    }

    /// `GET` for callers with this access, which the handler asks for.
    pub(super) fn asking<F: Answer>(
        self,
        access: impl Into<Access>,
        handler: fn(HttpRequest, Access) -> F,
    ) -> Self {
        let (pattern, access) = (self.pattern, access.into());
        let handler = move |request| handler(request, access);
        self.with(Method::GET, Some(access), move |route| route.to(answer(pattern, handler)))
    }

    /// Every method, for callers with this access, which the handler asks for. It is documented as
    /// `GET`.
    pub(super) fn any<F: Answer>(
        mut self,
        access: impl Into<Access>,
        handler: fn(HttpRequest, Access) -> F,
    ) -> Self {
        let (pattern, access) = (self.pattern, access.into());
        let handler = move |request| handler(request, access);
        self.resource = self.resource.route(web::route().to(answer(pattern, handler)));
        self.methods.push((Method::GET, Some(access)));
        self
    }

    /// Adds a method; `HEAD` comes with `GET`, and actix leaves out the body.
    fn with(
        mut self,
        method: Method,
        access: Option<Access>,
        to: impl FnOnce(Route) -> Route,
    ) -> Self {
        let route = match method {
            Method::GET => web::route().guard(guard::Any(guard::Get()).or(guard::Head())),
            _ => web::method(method.clone()),
        };
        self.resource = self.resource.route(to(route));
        self.methods.push((method, access));
        self
    }

    fn allow(&self) -> String {
        let names = self.methods.iter().map(|(method, _)| match *method {
            Method::GET => "GET, HEAD",
            _ => method.as_str(),
        });
        names.collect::<Vec<_>>().join(", ")
    }
}

/// A handler that nobody's credential was checked for.
fn answer<F: Answer>(
    pattern: &'static str,
    handler: impl Fn(HttpRequest) -> F + Clone + 'static,
) -> impl Fn(HttpRequest) -> LocalBoxFuture<'static, HttpResponse> + Clone {
    move |request| {
        let exchange = Exchange::of(&request);
        exchange.set_route(pattern);
        let answer = handler(request);
        async move { answer.await.unwrap_or_else(|problem| exchange.refuse(problem)) }.boxed_local()
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
