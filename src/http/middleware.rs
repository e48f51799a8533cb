//! Around every request: its id, the security headers, its metrics and its line in the access log.

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
use super::access_log::{self, Listener};
use super::exchange::{Exchange, PROBLEMS, REQUEST_ID};
use super::strangers_lines::StrangersLines;
use crate::budget::Place;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::origin::Origin;

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
    config: Arc<Config>,
    listener: Listener,
    strangers: Arc<StrangersLines>,
    draining: Arc<AtomicBool>,
    problems: Arc<str>,
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
        let url = state.config.server.public_url.as_ref();
        let problems = match url {
            Some(url) => format!("{}://{}{PROBLEMS}", url.scheme, url.authority).into(),
            None => PROBLEMS.into(),
        };
        Self {
            metrics: Arc::clone(&state.metrics),
            config: Arc::clone(&state.config),
            listener,
            strangers: Arc::clone(&state.strangers_lines),
            draining: Arc::clone(&state.draining),
            problems,
        }
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
        let around = Around {
            series: Series::new(Arc::clone(&self.metrics)),
            config: Arc::clone(&self.config),
            listener: self.listener,
            strangers: Arc::clone(&self.strangers),
            draining: Arc::clone(&self.draining),
            problems: Rc::from(&*self.problems),
        };
        ready(Ok(Observed { service, around: Rc::new(around) }))
    }
}

/// A worker's app, observed.
pub struct Observed<S> {
    service: S,
    around: Rc<Around>,
}

/// What a worker's requests need. They share it within the worker: to count references to what
/// all workers share makes their processors wait for each other.
struct Around {
    series: Series,
    config: Arc<Config>,
    listener: Listener,
    strangers: Arc<StrangersLines>,
    draining: Arc<AtomicBool>,
    problems: Rc<str>,
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
        let around = Rc::clone(&self.around);
        let exchange = Rc::new(Exchange::new(request.headers(), Rc::clone(&around.problems)));
        request.extensions_mut().insert(Rc::clone(&exchange));
        let place = request.conn_data::<Rc<Place>>().cloned();
        if let Some(place) = &place {
            place.begin_request();
        }
        let api = matches!(around.listener, Listener::Api { .. });
        let in_flight = api.then(|| InFlight::enter(&around.series.metrics.http_in_flight));
        let origin = Origin::Request(exchange.request_id().clone());
        // No other protocol is spoken here. actix does not read on after such a request.
        let upgrade = request.head().connection_type() == ConnectionType::Upgrade;
        let answer = self.service.call(request);
        Box::pin(origin.run(async move {
            let mut response = answer.await?;
            let Around { series, config, listener, strangers, draining, .. } = &*around;
            let refused = !response.status().is_success() && !response.status().is_redirection();
            let closes = place.is_some_and(|place| place.end_request(refused));
            complete(response.headers_mut(), &exchange, *listener);
            if upgrade || closes || draining.load(Ordering::Relaxed) {
                // The client comes back on a new connection; while this instance stops, to
                // another one.
                response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
            }
            let took = started.elapsed();
            if api {
                series.record(&response, &exchange, took);
            }
            access_log::log(&response, &exchange, took, *listener, strangers, &config.server);
            Ok(response.map_body(|_, body| Sent { body, _in_flight: in_flight }))
        }))
    }
}

fn complete(headers: &mut HeaderMap, exchange: &Exchange, listener: Listener) {
    if let Ok(id) = HeaderValue::from_str(exchange.request_id().as_str()) {
        headers.insert(REQUEST_ID, id);
    }
    for (name, value) in DEFAULT_HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
    if listener == (Listener::Api { tls: true }) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
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
    fn an_odd_method_has_no_label_of_its_own() {
        assert_eq!(method_label(&Method::PATCH), "PATCH");
        assert_eq!(method_label(&Method::from_bytes(b"BREW").unwrap()), "other");
    }
}
