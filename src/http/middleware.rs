//! Around every request: its id, the security headers, its metrics and its one line in the access
//! log (target `onceguard::access`). Never writes down bodies, headers, queries, tokens or nonces.

use std::cell::RefCell;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::Error;
use actix_web::HttpMessage as _;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method};
use actix_web::web::Bytes;
use futures_util::future::LocalBoxFuture;
use prometheus::{Histogram, IntCounter, IntGauge};

use super::State;
use super::exchange::{Exchange, REQUEST_ID};
use crate::metrics::Metrics;

/// Set where the answer does not say otherwise.
const DEFAULT_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// Two years.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000");

/// The middleware of a listener.
#[derive(Clone)]
pub struct Observe {
    metrics: Arc<Metrics>,
    listener: Listener,
    draining: Arc<AtomicBool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Listener {
    Api {
        tls: bool,
    },
    /// Probes and scrapes: not counted, and logged at debug level.
    Ops,
}

impl Observe {
    /// For the API's listener.
    #[must_use]
    pub fn api(state: &State) -> Self {
        let tls = state.config.server.tls.is_some();
        Self::new(state, Listener::Api { tls })
    }

    /// For the operations listener.
    #[must_use]
    pub fn ops(state: &State) -> Self {
        Self::new(state, Listener::Ops)
    }

    fn new(state: &State, listener: Listener) -> Self {
        let (metrics, draining) = (Arc::clone(&state.metrics), Arc::clone(&state.draining));
        Self { metrics, listener, draining }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Observe
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + Unpin + 'static,
{
    type Response = ServiceResponse<Sent<B>>;
    type Error = Error;
    type Transform = Observed<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let series = Rc::new(Series::new(Arc::clone(&self.metrics)));
        let draining = Arc::clone(&self.draining);
        ready(Ok(Observed { service, series, listener: self.listener, draining }))
    }
}

/// A worker's app, observed.
pub struct Observed<S> {
    service: S,
    series: Rc<Series>,
    listener: Listener,
    draining: Arc<AtomicBool>,
}

impl<S, B> Service<ServiceRequest> for Observed<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + Unpin + 'static,
{
    type Response = ServiceResponse<Sent<B>>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let started = Instant::now();
        let exchange = Rc::new(Exchange::new(request.headers()));
        request.extensions_mut().insert(Rc::clone(&exchange));
        let api = matches!(self.listener, Listener::Api { .. });
        let in_flight = api.then(|| InFlight::enter(&self.series.metrics.http_in_flight));
        let series = Rc::clone(&self.series);
        let listener = self.listener;
        let draining = Arc::clone(&self.draining);
        let answer = self.service.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            complete(response.headers_mut(), &exchange, listener);
            if draining.load(Ordering::Relaxed) {
                // The client comes back on a new connection, to an instance that stays.
                response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
            }
            let took = started.elapsed();
            if api {
                series.record(&response, &exchange, took);
            }
            log(&response, &exchange, took, listener);
            Ok(response.map_body(|_, body| Sent { body, _in_flight: in_flight }))
        })
    }
}

fn complete(headers: &mut HeaderMap, exchange: &Exchange, listener: Listener) {
    headers.insert(REQUEST_ID, exchange.request_id_header());
    for (name, value) in DEFAULT_HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
    if listener == (Listener::Api { tls: true }) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
}

fn log<B>(response: &ServiceResponse<B>, exchange: &Exchange, took: Duration, listener: Listener) {
    /// `tracing` fixes a level per call site.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "onceguard::access",
                request_id = exchange.request_id(),
                method = %response.request().method(),
                route = exchange.route(),
                path = loggable(exchange.route(), response.request().uri().path()),
                status = response.status().as_u16(),
                duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                caller = exchange.caller().map(super::auth::Caller::name),
                "request"
            )
        };
    }
    match listener {
        Listener::Api { .. } => line!(info),
        Listener::Ops => line!(debug),
    }
}

/// A path without the nonce that it may hold, however either of them is spelt.
fn loggable<'a>(route: &str, path: &'a str) -> &'a str {
    if !route.ends_with("/{nonce}") {
        return path;
    }
    let before: usize = path.split_inclusive('/').take(5).map(str::len).sum();
    path.get(..before).unwrap_or_default()
}

/// A body that counts its request as in flight until the connection has taken all of it: a
/// stop waits for that.
pub struct Sent<B> {
    body: B,
    _in_flight: Option<InFlight>,
}

impl<B: MessageBody + Unpin> MessageBody for Sent<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(context)
    }
}

/// Counts a request as in flight until it is answered or given up.
struct InFlight(IntGauge);

impl InFlight {
    fn enter(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The series that a worker has counted on, so that a request costs no lock. Routes and methods
/// are few, and told apart by where their text is: that is quicker than hashing it.
struct Series {
    metrics: Arc<Metrics>,
    known: RefCell<Vec<Known>>,
}

struct Known {
    route: &'static str,
    method: &'static str,
    status: u16,
    requests: IntCounter,
    seconds: Histogram,
}

impl Known {
    fn is(&self, route: &'static str, method: &'static str, status: u16) -> bool {
        self.status == status
            && std::ptr::eq(self.route, route)
            && std::ptr::eq(self.method, method)
    }
}

impl Series {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, known: RefCell::default() }
    }

    fn record<B>(&self, response: &ServiceResponse<B>, exchange: &Exchange, took: Duration) {
        let (route, method) = (exchange.route(), method_label(response.request().method()));
        let status = response.status().as_u16();
        let mut known = self.known.borrow_mut();
        let found = known.iter().position(|known| known.is(route, method, status));
        let at = found.unwrap_or_else(|| {
            let Metrics { http_requests, http_request_seconds, .. } = &*self.metrics;
            let labels = [method, route, &status.to_string()];
            let requests = http_requests.with_label_values(&labels);
            let seconds = http_request_seconds.with_label_values(&[method, route]);
            known.push(Known { route, method, status, requests, seconds });
            known.len() - 1
        });
        if let Some(Known { requests, seconds, .. }) = known.get(at) {
            requests.inc();
            seconds.observe(took.as_secs_f64());
        }
    }
}

/// The methods of the table by name; callers cannot invent series.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_in_a_path_is_not_logged() {
        let route = "/v1/sessions/{id}/nonces/{nonce}";
        assert_eq!(loggable(route, "/v1/sessions/s/nonces/secret"), "/v1/sessions/s/nonces/");
        assert_eq!(loggable(route, "/v1/sessions/s/%6Eonces/secret"), "/v1/sessions/s/%6Eonces/");
        let claim = "/v1/sessions/{id}/nonces";
        assert_eq!(loggable(claim, "/v1/sessions/s/nonces"), "/v1/sessions/s/nonces");
    }

    #[test]
    fn an_odd_method_has_no_label_of_its_own() {
        assert_eq!(method_label(&Method::PATCH), "PATCH");
        assert_eq!(method_label(&Method::from_bytes(b"BREW").unwrap()), "other");
    }
}
