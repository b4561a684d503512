//! Accepting connections: bounded in number, and ended in order.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use lmao_ports::Metrics;
use poem::{
    Route, Server,
    endpoint::make_sync,
    http::uri::Scheme,
    listener::Acceptor,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{Gateway, app::App, metrics::Text};

/// How long a connection may be silent between requests.
const IDLE: Duration = Duration::from_secs(75);
/// How long requests, sockets and streams have to end once the process is to.
const DRAIN: Duration = Duration::from_secs(30);
/// Connections of scrapers.
const SCRAPERS: usize = 16;
/// How long a scrape has to end.
const SCRAPE: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted, for example because no file descriptor was left.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then drains.
pub(crate) async fn serve(
    gateway: Gateway,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let Gateway { app, endpoint } = gateway;
    let address = LocalAddr(listener.local_addr()?.into());
    let places = Arc::new(Semaphore::new(app.state.limits.connections));
    let acceptor = Bounded { listener, address, places };
    let closing = app.clone();
    let signal = async move {
        shutdown.await;
        closing.closing.cancel();
    };
    Server::new_with_acceptor(acceptor)
        .idle_timeout(IDLE)
        .run_with_graceful_shutdown(endpoint, signal, Some(DRAIN))
        .await?;
    drain(&app).await;
    Ok(())
}

/// Serves the metrics until `shutdown`.
pub(crate) async fn metrics(
    metrics: Arc<dyn Metrics>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let address = LocalAddr(listener.local_addr()?.into());
    let acceptor = Bounded { listener, address, places: Arc::new(Semaphore::new(SCRAPERS)) };
    let scrape = make_sync(move |_| Text(metrics.render()));
    Server::new_with_acceptor(acceptor)
        .idle_timeout(IDLE)
        .run_with_graceful_shutdown(Route::new().at("/metrics", poem::get(scrape)), shutdown, Some(SCRAPE))
        .await
}

/// Sockets outlive the connections that the server counts.
async fn drain(app: &App) {
    app.closing.cancel();
    app.tasks.close();
    if tokio::time::timeout(DRAIN, app.tasks.wait()).await.is_err() {
        tracing::warn!(open = app.tasks.len(), "sockets were still open when the time to end them was over");
    }
}

/// A listener with so many places: who comes when all are taken waits in the system's queue.
struct Bounded {
    listener: TcpListener,
    address: LocalAddr,
    places: Arc<Semaphore>,
}

impl Acceptor for Bounded {
    type Io = Placed;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![self.address.clone()]
    }

    async fn accept(&mut self) -> io::Result<(Placed, LocalAddr, RemoteAddr, Scheme)> {
        let place = self.places.clone().acquire_owned().await.map_err(io::Error::other)?;
        match self.listener.accept().await {
            Ok((stream, remote)) => {
                stream.set_nodelay(true)?;
                Ok((Placed { stream, _place: place }, self.address.clone(), RemoteAddr(remote.into()), Scheme::HTTP))
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                Err(error)
            }
        }
    }
}

/// A connection and its place.
struct Placed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Placed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
