//! Requests from node to node on core NATS: each node answers on a subject of its own.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::{
    Message, Subscriber,
    client::{Request, RequestErrorKind},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use lmao_ports::{NodeId, Responder, RouteError, Router, Serving, Unavailable};
use tokio::{sync::oneshot, time::Instant};

use super::{Nats, STORE};

/// How long a connection may be lost before a request that waits for its answer is given up.
const AWAY: Duration = Duration::from_secs(1);
/// How long the answer may take once there is another connection: longer than an append. It may have been sent in between and
/// be lost, but as a rule it is still to come, from a node whose append waits for the same server.
const AGAIN: Duration = Duration::from_secs(12);
/// How long the server may take to know who answers.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// How often the connection is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Requests over a NATS server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NatsRouter {
    nats: Nats,
}

impl NatsRouter {
    /// Requests among the nodes of the system on `nats`.
    #[must_use]
    pub fn new(nats: &Nats) -> Self {
        Self { nats: nats.clone() }
    }

    fn subject(&self, node: NodeId) -> String {
        self.nats.subject(&format!("nodes.{node}"))
    }

    /// Ends when the connection has been lost for a while, or was lost a while ago.
    async fn away(&self) {
        let statistics = self.nats.client().statistics();
        let connections = || statistics.connects.load(Ordering::Relaxed);
        let before = connections();
        let (mut connected, mut again) = (Instant::now(), None);
        while connected.elapsed() < AWAY && again.is_none_or(|again: Instant| again.elapsed() < AGAIN) {
            tokio::time::sleep(LOOK).await;
            if self.nats.is_connected() {
                connected = Instant::now();
            }
            if connections() != before {
                again.get_or_insert_with(Instant::now);
            }
        }
    }
}

#[async_trait]
impl Router for NatsRouter {
    async fn request(&self, to: NodeId, request: Bytes, at_most: Duration) -> Result<Bytes, RouteError> {
        // The client would send it once it is connected again, long after the caller was told that nothing happened.
        if !self.nats.is_connected() {
            return Err(Unavailable::plain(STORE, "there is no connection to the other nodes").into());
        }
        let (size, limit) = (request.len(), self.nats.client().server_info().max_payload);
        if size > limit {
            return Err(RouteError::TooLarge { size, limit });
        }
        let request = Request::new().payload(request).timeout(None);
        let answer = tokio::select! {
            answer = self.nats.client().send_request(self.subject(to), request) => answer,
            () = tokio::time::sleep(at_most) => return Err(RouteError::NoAnswer(to)),
            () = self.away() => return Err(RouteError::NoAnswer(to)),
        };
        answer.map(|message| message.payload).map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => RouteError::Nobody(to),
            RequestErrorKind::MaxPayloadExceeded => RouteError::TooLarge { size, limit },
            RequestErrorKind::TimedOut | RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
                RouteError::NoAnswer(to)
            }
        })
    }

    async fn serve(&self, node: NodeId, responder: Arc<dyn Responder>) -> Result<Box<dyn Serving>, Unavailable> {
        let failed = |error: async_nats::Error| Unavailable::new(STORE, "requests cannot be received", error);
        let client = self.nats.client();
        let requests = client.subscribe(self.subject(node)).await.map_err(|error| failed(error.into()))?;
        // What a connection sends is handled in order: once this is answered, by whomever, the server knows of the subject.
        let known = Request::new().payload(Bytes::new()).timeout(Some(KNOWN_WITHIN));
        match client.send_request(format!("{}.known", self.subject(node)), known).await {
            Err(error) if error.kind() != RequestErrorKind::NoResponders => return Err(failed(error.into())),
            Ok(_) | Err(_) => {}
        }
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(answer_all(self.nats.clone(), requests, responder, stopped));
        Ok(Box::new(Served { _stop: stop }))
    }
}

/// Answers each request in a task of its own: as many as their senders' limits allow.
async fn answer_all(
    nats: Nats,
    mut requests: Subscriber,
    responder: Arc<dyn Responder>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        tokio::select! {
            biased;
            request = requests.next() => match request {
                Some(request) => drop(tokio::spawn(answer(nats.clone(), request, Arc::clone(&responder)))),
                None => return,
            },
            // The sender is dropped, never used.
            _ = &mut stopped => break,
        }
    }
    if let Err(error) = requests.drain().await {
        tracing::debug!(%error, "there is no connection any more");
        return;
    }
    // What had arrived is answered still.
    while let Some(request) = requests.next().await {
        tokio::spawn(answer(nats.clone(), request, Arc::clone(&responder)));
    }
}

async fn answer(nats: Nats, request: Message, responder: Arc<dyn Responder>) {
    let Some(to) = request.reply else { return };
    let answer = responder.answer(request.payload).await;
    let size = answer.len();
    if let Err(error) = nats.client().publish(to, answer).await {
        tracing::error!(%error, size, "an answer was not sent");
    }
}

/// Dropped, it ends the answering.
#[derive(Debug)]
struct Served {
    _stop: oneshot::Sender<()>,
}

impl Serving for Served {}

#[cfg(test)]
mod tests {
    use lmao_ports::conformance::placement;
    use uuid::Uuid;

    use super::{super::testing, *};

    #[tokio::test]
    async fn conformance() {
        let space = testing::empty().await;
        let new = async || {
            let other = Nats::connect(space.url()).await.unwrap();
            [Arc::new(NatsRouter::new(&space)) as Arc<dyn Router>, Arc::new(NatsRouter::new(&other))]
        };
        placement::router(new).await;
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_sent() {
        let space = testing::empty().await;
        let limit = space.client().server_info().max_payload;
        let requests = NatsRouter::new(&space);
        let size = limit + 1;
        let sent = requests.request(NodeId(Uuid::new_v4()), Bytes::from(vec![0; size]), Duration::from_secs(5)).await;
        assert!(matches!(sent, Err(RouteError::TooLarge { size: s, limit: l }) if (s, l) == (size, limit)), "{sent:?}");
    }

    /// Never answers.
    #[derive(Debug)]
    struct Silent;

    #[async_trait]
    impl Responder for Silent {
        async fn answer(&self, _: Bytes) -> Bytes {
            std::future::pending().await
        }
    }

    /// A server of this test's own, killed when it is dropped.
    async fn server(port: u16, dir: &std::path::Path) -> tokio::process::Child {
        let binary = std::env::var("LMAO_TEST_NATS_SERVER")
            .expect("LMAO_TEST_NATS_SERVER is not set: run the tests with cargo xtask test");
        let mut server = tokio::process::Command::new(binary);
        server.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(dir);
        server.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).kill_on_drop(true);
        let server = server.spawn().expect("the server starts");
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server does not listen on {port}");
    }

    #[tokio::test]
    async fn a_server_that_goes_away_leaves_nobody_waiting() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let mut server = server(port, dir.path()).await;
        let nats = Nats::connect(&format!("nats://127.0.0.1:{port}")).await.unwrap();
        let (requests, node) = (NatsRouter::new(&nats), NodeId(Uuid::new_v4()));
        let _serving = requests.serve(node, Arc::new(Silent)).await.unwrap();
        let ask = || requests.request(node, Bytes::new(), Duration::from_secs(300));
        let killed = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.kill().await.unwrap();
        };
        let (unanswered, ()) = tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(ask(), killed) })
            .await
            .expect("long before its own time is over");
        assert!(matches!(unanswered, Err(RouteError::NoAnswer(_))), "{unanswered:?}");
        let unsent = ask().await;
        assert!(matches!(unsent, Err(RouteError::Unavailable(_))), "{unsent:?}");
    }

    /// Restarts the server while a request waits for this responder; what became of the request.
    async fn asked_across_a_restart(responder: impl FnOnce(Nats) -> Arc<dyn Responder>) -> Result<Bytes, RouteError> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let mut first = server(port, dir.path()).await;
        let nats = Nats::connect(&format!("nats://127.0.0.1:{port}")).await.unwrap();
        let (requests, node) = (NatsRouter::new(&nats), NodeId(Uuid::new_v4()));
        let _serving = requests.serve(node, responder(nats.clone())).await.unwrap();
        let restarted = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            first.kill().await.unwrap();
            server(port, dir.path()).await
        };
        let asked = requests.request(node, Bytes::new(), Duration::from_secs(300));
        let (answer, _second) = tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(asked, restarted) })
            .await
            .expect("long before its own time is over");
        assert!(nats.is_connected());
        answer
    }

    #[tokio::test]
    async fn an_answer_that_was_lost_with_its_connection_is_not_waited_for() {
        let unanswered = asked_across_a_restart(|_| Arc::new(Silent)).await;
        assert!(matches!(unanswered, Err(RouteError::NoAnswer(_))), "{unanswered:?}");
    }

    /// Answers some time after there was another connection.
    #[derive(Debug)]
    struct Slow(Nats);

    #[async_trait]
    impl Responder for Slow {
        async fn answer(&self, _: Bytes) -> Bytes {
            let statistics = self.0.client().statistics();
            while statistics.connects.load(Ordering::Relaxed) < 2 {
                tokio::time::sleep(LOOK).await;
            }
            tokio::time::sleep(AWAY * 2).await;
            Bytes::from_static(b"late")
        }
    }

    #[tokio::test]
    async fn an_answer_that_comes_by_the_next_connection_is_waited_for() {
        assert!(AGAIN > super::super::Limits::default().deadline, "an append may take that long");
        assert_eq!(asked_across_a_restart(|nats| Arc::new(Slow(nats))).await.unwrap(), "late");
    }
}
