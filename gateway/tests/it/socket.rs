//! Conversations over WebSocket, over a real connection.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::oneshot};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        protocol::frame::{
            Frame,
            coding::{CloseCode, Data as OpData, OpCode},
        },
    },
};

use crate::world::World;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Served {
    address: String,
    token: String,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn serve() -> Served {
    let world = World::new().await;
    let token = world.ann().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(world.gateway.serve(listener, async {
        stopped.await.ok();
    }));
    Served { address, token, stop, served }
}

impl Served {
    async fn connect(&self, path: &str) -> Socket {
        let mut request = format!("ws://{}/api/v1/chat/ws/{path}", self.address).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        connect_async(request).await.unwrap().0
    }
}

async fn frame(socket: &mut Socket) -> Value {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.unwrap().unwrap().unwrap();
        match message {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => return json!({ "closed": format!("{other:?}") }),
        }
    }
}

/// The frames up to and including the whole answer.
async fn answer(socket: &mut Socket) -> Vec<Value> {
    let mut frames = vec![];
    loop {
        let next = frame(socket).await;
        let last = next["metadata"]["partial"] == false || next["type"] == "error";
        frames.push(next);
        if last {
            return frames;
        }
    }
}

async fn say(socket: &mut Socket, text: &str) {
    socket.send(Message::text(json!({ "type": "message", "content": text }).to_string())).await.unwrap();
}

#[tokio::test]
async fn a_new_session_is_named_first_and_answers_in_order() {
    let served = serve().await;
    let mut socket = served.connect("new").await;
    let first = frame(&mut socket).await;
    assert_eq!((&first["type"], &first["metadata"]["state"]), (&json!("status"), &json!("connected")));
    let session = first["metadata"]["session_id"].as_str().unwrap().to_owned();

    say(&mut socket, "one").await;
    say(&mut socket, "two").await;
    let (one, two) = (answer(&mut socket).await, answer(&mut socket).await);
    assert_eq!(one.last().unwrap()["content"], "You said: one");
    assert_eq!(two.last().unwrap()["content"], "You said: two");
    assert!(one.iter().chain(&two).all(|frame| frame["metadata"]["session_id"] == session.as_str()));
    assert!(one.iter().chain(&two).all(|frame| frame["metadata"]["position"].is_string()));
    assert_eq!(one.last().unwrap()["metadata"]["citations"], json!([]));

    // Whoever comes back with a position gets what came since, and then what comes.
    let seen = one.last().unwrap()["metadata"]["position"].as_str().unwrap();
    let mut again = served.connect(&format!("{session}?after={seen}")).await;
    assert_eq!(frame(&mut again).await["metadata"]["state"], "connected");
    assert_eq!(answer(&mut again).await.last().unwrap()["content"], "You said: two");
    say(&mut socket, "three").await;
    assert_eq!(answer(&mut again).await.last().unwrap()["content"], "You said: three");
}

#[tokio::test]
async fn a_bad_frame_is_answered_and_the_socket_stays() {
    let served = serve().await;
    let mut socket = served.connect("new").await;
    frame(&mut socket).await;
    for bad in [Message::text("hello"), Message::text(r#"{"type":"shout"}"#), Message::binary(vec![1, 2, 3])] {
        socket.send(bad).await.unwrap();
        let error = frame(&mut socket).await;
        assert_eq!((&error["type"], &error["metadata"]["reason"]), (&json!("error"), &json!("bad_frame")));
    }
    say(&mut socket, " ").await;
    assert_eq!(frame(&mut socket).await["metadata"]["reason"], "empty_message");
    say(&mut socket, "still here").await;
    assert_eq!(answer(&mut socket).await.last().unwrap()["content"], "You said: still here");
}

#[tokio::test]
async fn a_frame_that_is_too_large_is_told_so_and_ends_the_socket() {
    let served = serve().await;
    let piece = |is_first: bool| {
        let data = if is_first { OpData::Text } else { OpData::Continue };
        Message::Frame(Frame::message(vec![b'x'; 600_000], OpCode::Data(data), false))
    };
    let whole = |bytes: usize| vec![Message::text("x".repeat(bytes))];
    for sent in [whole(1024 * 1024 + 1), whole(20_000_000), vec![piece(true), piece(false)]] {
        let socket = served.connect("new").await;
        let (mut sink, mut source) = socket.split();
        // Whoever is cut off cannot send to the end.
        let sending = tokio::spawn(async move {
            for message in sent {
                sink.send(message).await.ok();
            }
            sink
        });
        let mut next =
            async || tokio::time::timeout(Duration::from_secs(20), source.next()).await.unwrap().unwrap().unwrap();
        next().await;
        let error: Value = serde_json::from_str(next().await.to_text().unwrap()).unwrap();
        let (kind, metadata) = (&error["type"], &error["metadata"]);
        assert_eq!((kind, &metadata["reason"]), (&json!("error"), &json!("frame_too_large")), "{error}");
        assert_eq!((&metadata["code"], &metadata["limit"]), (&json!(413), &json!(1024 * 1024)));
        let Message::Close(Some(close)) = next().await else { panic!("no close frame") };
        assert_eq!(close.code, CloseCode::Size);
        sending.abort();
    }
}

#[tokio::test]
async fn a_socket_needs_a_token_and_a_session_of_ones_own() {
    let served = serve().await;
    let refused = |path: String| async move {
        match connect_async(path).await.unwrap_err() {
            tokio_tungstenite::tungstenite::Error::Http(response) => response.status().as_u16(),
            other => panic!("{other}"),
        }
    };
    let base = format!("ws://{}/api/v1/chat/ws", served.address);
    assert_eq!(refused(format!("{base}/new")).await, 401);
    assert_eq!(refused(format!("{base}/new?access_token=x")).await, 401);
    assert_eq!(refused(format!("{base}/{}?access_token={}", uuid::Uuid::from_u128(7), served.token)).await, 404);
    assert_eq!(refused(format!("{base}/7?access_token={}", served.token)).await, 404);
    assert_eq!(refused(format!("{base}/new?after=x&access_token={}", served.token)).await, 400);
    let (mut socket, _) = connect_async(format!("{base}/new?access_token={}", served.token)).await.unwrap();
    assert_eq!(frame(&mut socket).await["type"], "status");
}

#[tokio::test]
async fn a_shutdown_ends_sockets_and_returns() {
    let served = serve().await;
    let mut socket = served.connect("new").await;
    frame(&mut socket).await;
    served.stop.send(()).unwrap();
    let end = frame(&mut socket).await;
    assert!(end["closed"].as_str().is_some_and(|close| close.contains("shutting down")), "{end}");
    // The client's half of the closing handshake.
    socket.close(None).await.ok();
    while let Some(Ok(_)) = socket.next().await {}
    tokio::time::timeout(Duration::from_secs(20), served.served).await.unwrap().unwrap().unwrap();
}
