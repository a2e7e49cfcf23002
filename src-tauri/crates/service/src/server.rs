//! The service as its host sees it: bind, run, stop.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_io_timeout::TimeoutStream;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::announce::announce;
use crate::app::{App, Shared};
use crate::clients::Client;
use crate::config::ServiceConfig;
use crate::reach::{Reachable, reachable};
use crate::routes;
use crate::slot::ModelSlot;

/// How long connections may take to send their last words once their answers have been ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; choose another port, or stop what uses this one",
        io::ErrorKind::AddrNotAvailable => "; choose an address of this machine",
        io::ErrorKind::PermissionDenied => "; choose a port from 1024 on",
        _ => "",
    }
}

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}{}", advice(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The endpoint over a [`ModelSlot`]. It runs once: to listen elsewhere, close it and start another over the same slot.
#[derive(Clone)]
pub struct Service(Shared);

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("address", &self.0.config.address).finish_non_exhaustive()
    }
}

/// The ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) peer: IpAddr,
    pub(crate) local: IpAddr,
}

impl Service {
    /// A service that answers with whatever is in `slot`.
    #[must_use]
    pub fn new(config: ServiceConfig, slot: ModelSlot) -> Self {
        Self(Arc::new(App::new(config, slot)))
    }

    /// Listens on the configured address and answers in the background, on the current tokio runtime.
    ///
    /// # Errors
    /// [`ServeError::Bind`].
    pub async fn start(self) -> Result<Handle, ServeError> {
        let address = self.0.config.address;
        let bind = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let app = Arc::clone(&self.0);
        let lan = app.config.is_lan();
        if lan && app.config.require_key && app.config.keys.stored().is_empty() {
            tracing::warn!("open to the network, but no key is set: every peer but this machine is refused");
        }
        tracing::info!(%address, lan, "listening");
        let task = tokio::spawn(run(listener, Arc::clone(&app)));
        Ok(Handle { app, address, task })
    }

    /// As [`Service::start`], on a listener of the caller's; returns when `shutdown` has resolved and all answers have
    /// ended or used up their grace.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        let app = Arc::clone(&self.0);
        let mut running = tokio::spawn(run(listener, Arc::clone(&app)));
        tokio::select! {
            _ = &mut running => return,
            () = shutdown => app.phases.closing.cancel(),
        }
        let _ = running.await;
    }
}

/// A running service. Dropping it leaves the service running; [`Handle::shutdown`] ends it.
pub struct Handle {
    app: Shared,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Who is connected to a running service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connected {
    /// Open connections.
    pub connections: usize,
    /// The peers they come from, each once, in order.
    pub peers: Vec<IpAddr>,
}

impl Handle {
    /// Where the service listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where to send requests: from this machine first, then from each network that can reach it.
    #[must_use]
    pub fn reachable(&self) -> Vec<Reachable> {
        reachable(self.address)
    }

    /// Whether the network can reach it.
    #[must_use]
    pub fn is_lan(&self) -> bool {
        self.app.config.is_lan()
    }

    /// Who is connected now.
    #[must_use]
    pub fn connected(&self) -> Connected {
        let list = self.app.clients.list();
        let peers = list.iter().filter(|client| client.connections > 0).map(|client| client.address).collect();
        Connected { connections: list.iter().map(|client| client.connections).sum(), peers }
    }

    /// Who is connected or was in the last minutes, with what they asked for.
    #[must_use]
    pub fn clients(&self) -> Vec<Client> {
        self.app.clients.list()
    }

    /// Stops taking requests and frees the port at once. Running answers go on; see [`Handle::shutdown`].
    pub fn close(&self) {
        self.app.phases.closing.cancel();
    }

    /// [`Handle::close`], then waits until every answer has ended by itself, or has been ended after the grace period.
    pub async fn shutdown(self) {
        self.close();
        let _ = self.task.await;
    }
}

async fn run(listener: TcpListener, app: Shared) {
    let announced = listener.local_addr().ok().filter(|_| app.config.is_announced()).map(|address| {
        let app = Arc::clone(&app);
        tokio::spawn(async move { announce(&app, address).await })
    });
    let router = routes::router(&app);
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(app.config.limits.connections));
    loop {
        let Ok(place) = (tokio::select! {
            () = app.phases.closing.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        }) else {
            break;
        };
        let accepted = tokio::select! {
            () = app.phases.closing.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (app, router) = (Arc::clone(&app), router.clone());
                connections.spawn(async move {
                    app.clients.enter(peer.ip());
                    connection(stream, peer.ip(), &app, router).await;
                    app.clients.leave(peer.ip());
                    drop(place);
                });
            }
            // Out of descriptors, most likely: some will be closed.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if let Some(announced) = announced {
        let _ = announced.await;
    }
    connections.close();
    let _ = tokio::time::timeout(app.config.limits.grace, connections.wait()).await;
    app.phases.ending.cancel();
    let _ = tokio::time::timeout(LAST_WORDS, connections.wait()).await;
    app.phases.gone.cancel();
    connections.wait().await;
    tracing::info!("stopped");
}

async fn connection(stream: TcpStream, peer: IpAddr, app: &Shared, router: axum::Router) {
    let Ok(local) = stream.local_addr() else { return };
    let ends = Ends { peer: peer.to_canonical(), local: local.ip().to_canonical() };
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(app.config.limits.write_time));
    let service = router.map_request(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ends);
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.config.limits.head_time)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    // A connection that ends in an error is a client that went away or broke off: nobody is left to be told.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = app.phases.closing.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection.as_mut() => {}
        () = app.phases.gone.cancelled() => {}
    }
}
