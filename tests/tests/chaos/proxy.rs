//! The way to a server that others use too, and so is not killed itself: connections through it are cut, refused or held up,
//! which is what clients see of a server that dies, is away or is paused.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

/// What happens to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Hold,
    Refuse,
}

/// A listener on a free port, for as long as the runtime lives.
pub(super) struct Proxy {
    /// `127.0.0.1:PORT`
    pub(super) authority: String,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// In front of this `host:port`.
    pub(super) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let authority = listener.local_addr().expect("it has an address").to_string();
        let mode = watch::Sender::new(Mode::Pass);
        tokio::spawn(accept(listener, server.to_owned(), mode.subscribe()));
        Self { authority, mode }
    }

    pub(super) fn is_up(&self) -> bool {
        *self.mode.borrow() == Mode::Pass
    }

    /// Breaks all connections and takes no new ones for so long.
    pub(super) fn cut(&self, away: Duration) {
        self.change(Mode::Refuse, away);
    }

    /// Lets no byte through for so long.
    pub(super) fn hold(&self, pause: Duration) {
        self.change(Mode::Hold, pause);
    }

    fn change(&self, to: Mode, time: Duration) {
        let mode = self.mode.clone();
        mode.send_replace(to);
        tokio::spawn(async move {
            sleep(time).await;
            mode.send_replace(Mode::Pass);
        });
    }
}

async fn accept(listener: TcpListener, server: String, mode: watch::Receiver<Mode>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        if *mode.borrow() != Mode::Refuse {
            tokio::spawn(join(client, server.clone(), mode.clone()));
        }
    }
}

async fn join(client: TcpStream, server: String, mut mode: watch::Receiver<Mode>) {
    let (there, back) = (mode.clone(), mode.clone());
    let passed = async {
        let Ok(server) = TcpStream::connect(server).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            () = pass(from_client, to_server, there) => {}
            () = pass(from_server, to_client, back) => {}
        }
    };
    tokio::select! {
        () = passed => {}
        _ = mode.wait_for(|mode| *mode == Mode::Refuse) => {}
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut mode: watch::Receiver<Mode>,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if mode.wait_for(|mode| *mode == Mode::Pass).await.is_err() || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
