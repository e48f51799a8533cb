//! The HTTP servers. A connection of the API first takes a place, so that strangers cannot take all
//! of them; then comes its TLS handshake, in a bounded time; then HTTP. No connection is served
//! without a place.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::{Extensions, HttpService, Protocol};
use actix_service::{IntoServiceFactory as _, Service, ServiceFactoryExt as _, map_config};
use actix_web::dev::{AppConfig, Server, ServiceFactory as _, fn_factory, fn_service};
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use rustix::io::ioctl_fionread;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::budget::{Connections, Place, Shown};
use crate::config::Config;
use crate::http::middleware::Observe;
use crate::http::{self, State};

/// A client whose TLS handshake takes longer is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A client that takes longer to send a whole request head is cut off.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may go on sending a body after its request was refused.
const LINGER: Duration = Duration::from_secs(1);
/// Open files besides the API's connections: the database, its pool, other listeners, resolvers.
const OTHER_FILES: u64 = 1024;
/// How many bytes one stream, and one connection, of HTTP/2 may send before they are read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Serves the API on a listener.
pub(crate) fn api(
    state: &Data<State>,
    config: &Arc<Config>,
    connections: &Connections,
    listener: TcpListener,
    tls: Option<rustls::ServerConfig>,
) -> io::Result<Server> {
    let tls = tls.map(|mut tls| {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(tls))
    });
    let (state, config) = (state.clone(), Arc::clone(config));
    let door = Door { connections: connections.clone(), tls, config: Arc::clone(&config) };
    let server = Server::build();
    let stopping = server.graceful_shutdown_signal();
    let server = match config.server.workers {
        0 => server,
        workers => server.workers(workers),
    };
    let server =
        server.disable_signals().shutdown_timeout(config.server.shutdown_timeout.as_secs());
    let server = server.listen("api", listener, move || {
        let (state, door, stopping) = (state.clone(), door.clone(), stopping.clone());
        fn_factory(move || {
            let app = App::new().app_data(state.clone()).wrap(Observe::api(&state));
            let app = app.configure(http::routes::api).into_factory();
            let app = app.map_err(|error| error.error_response());
            let stopping = stopping.clone();
            let http = HttpService::build()
                .client_request_timeout(REQUEST_HEAD_TIMEOUT)
                .client_disconnect_timeout(LINGER)
                .keep_alive(KEEP_ALIVE)
                .h2_initial_window_size(STREAM_WINDOW)
                .h2_initial_connection_window_size(CONNECTION_WINDOW)
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .on_connect_ext(|connection: &Connection, extensions: &mut Extensions| {
                    extensions.insert(Rc::clone(&connection.place));
                })
                .finish(map_config(app, |()| AppConfig::default()));
            let (door, http) = (door.clone(), http.new_service(()));
            async move {
                let http = Rc::new(http.await?);
                Ok::<_, ()>(fn_service(move |io| door.clone().serve(io, Rc::clone(&http))))
            }
        })
    })?;
    Ok(server.run())
}

/// Serves health probes and Prometheus.
pub(crate) fn ops(state: &Data<State>, listener: TcpListener) -> io::Result<Server> {
    let data = state.clone();
    let server = HttpServer::new(move || {
        App::new().app_data(data.clone()).wrap(Observe::ops(&data)).configure(http::ops::routes)
    });
    let server = server.workers(1).client_request_timeout(REQUEST_HEAD_TIMEOUT).disable_signals();
    Ok(server.listen(listener)?.run())
}

/// Raises the limit on open files to what the connections need, where that is allowed.
pub(crate) fn allow_files(config: &Config) {
    let to_receivers = u64::from(config.webhooks.max_in_flight);
    let needed = config.limits.connections as u64 + to_receivers + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return;
    }
    let allowed = maximum.map_or(needed, |maximum| maximum.min(needed));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum }) {
        tracing::warn!(%error, "the number of files that may be open could not be raised");
    } else if allowed < needed {
        tracing::warn!(
            connections = config.limits.connections,
            needed,
            allowed,
            "limits.connections needs more open files than the process may have (ulimit -n)"
        );
    }
}

/// The steps of a connection before HTTP.
#[derive(Clone)]
struct Door {
    connections: Connections,
    tls: Option<TlsAcceptor>,
    config: Arc<Config>,
}

impl Door {
    /// Serves a connection to its end, or until its place is needed for another.
    async fn serve<H>(self, io: TcpStream, http: Rc<H>) -> Result<(), ()>
    where
        H: Service<(Connection, Protocol, Option<SocketAddr>), Response = ()>,
    {
        // The client may be gone already.
        let Ok(address) = io.peer_addr() else { return Ok(()) };
        let peer = self.config.server.peer_of_connection(address.ip());
        let Some(place) = self.connections.open(peer).map(Rc::new) else { return Ok(()) };
        let served = async {
            let Some((io, protocol)) = self.shake_hands(io, &place).await else { return };
            let connection = Connection { io, place: Rc::clone(&place) };
            // Everything of interest about its end was logged already.
            let _ = http.call((connection, protocol, Some(address))).await;
        };
        let mut served = pin!(served);
        loop {
            let shown = tokio::select! {
                biased;
                () = &mut served => break,
                shown = place.closed() => shown,
            };
            if shown == Shown::Nothing {
                // A request may have arrived that this thread did not hear of yet. One turn of the
                // runtime tells.
                tokio::select! {
                    biased;
                    () = &mut served => break,
                    () = tokio::task::yield_now() => {}
                }
            }
            // A credential may have been found good in this very turn: its request is under way.
            if !place.spare(shown) {
                break;
            }
        }
        Ok(())
    }

    async fn shake_hands(&self, io: TcpStream, place: &Place) -> Option<(Io, Protocol)> {
        let Some(acceptor) = &self.tls else {
            return Some((Either::Left(io), Protocol::Http1));
        };
        let _handshaking = place.handshake();
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(io));
        let io = Box::pin(handshake).await.ok()?.ok()?;
        let protocol = match io.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Some((Either::Right(Box::new(io)), protocol))
    }
}

type Io = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection that is read as far as its place allows.
struct Connection {
    io: Io,
    place: Rc<Place>,
}

impl Connection {
    /// Whether bytes have arrived that were not read yet.
    fn holds_bytes(&self) -> bool {
        let socket = match &self.io {
            Either::Left(io) => io,
            Either::Right(io) => io.get_ref().0,
        };
        ioctl_fionread(socket).is_ok_and(|bytes| bytes > 0)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.place.poll_read(context))?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        // Tokio reports a new socket as empty until its first event, even if bytes have arrived.
        // Only the kernel knows.
        if read.is_pending() && self.place.is_uncounted() && !self.holds_bytes() {
            self.place.count();
        }
        ready!(read)?;
        self.place.has_read(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::config::{Limits, Need, Sources};

    type Opened = (Connection, Protocol, Option<SocketAddr>);

    /// What came over a connection by the time that another one needed its place.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Came {
        Nothing,
        /// A request, of which its thread hears in the next turn.
        Request,
        /// A request whose token was found good in this very turn.
        Token,
    }

    /// What a client reads whose place another one needs.
    async fn read_by_client(came: Came) -> String {
        let one = Limits { stranger_connections: 1, ..Limits::for_tests() };
        let connections = Connections::for_tests(one);
        let config = Arc::new(Sources::default().load(Need::Database).unwrap().config);
        let door =
            Door { connections: connections.clone(), tls: None, config: Arc::clone(&config) };
        let http = fn_service::<_, _, _, _, _, ()>(move |(mut connection, _, address): Opened| {
            let (connections, config) = (connections.clone(), Arc::clone(&config));
            async move {
                let place = Rc::clone(&connection.place);
                let peer = config.server.peer_of_connection(address.unwrap().ip());
                let other = connections.open(peer).unwrap();
                for place in [&*place, &other] {
                    place.count();
                    if came == Came::Token {
                        place.begin_request();
                    }
                }
                assert!(place.closed().now_or_never().is_some(), "the other one needs its place");
                match came {
                    Came::Nothing => {}
                    Came::Request => {
                        tokio::task::yield_now().await;
                        place.begin_request();
                        place.admit();
                    }
                    Came::Token => place.admit(),
                }
                // The request waits for the database.
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                connection.io.write_all(b"answer").await
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let mut read = String::new();
        let mut client = client.unwrap();
        let (served, _) = tokio::join!(
            door.serve(accepted.unwrap().0, Rc::new(http)),
            client.read_to_string(&mut read),
        );
        assert_eq!(served, Ok(()));
        read
    }

    #[tokio::test]
    async fn a_connection_whose_place_is_needed_ends_unless_a_request_came_just_then() {
        assert_eq!(read_by_client(Came::Nothing).await, "");
        assert_eq!(read_by_client(Came::Request).await, "answer");
        assert_eq!(read_by_client(Came::Token).await, "answer");
    }
}
