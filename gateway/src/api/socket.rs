//! A conversation over WebSocket (RFC 6455): a view of one session's log, with tokens as they are written.
//!
//! What is shown comes from the log, in its order, whoever sent the message; live frames only fill the time in between. So
//! a client that comes back with its last position misses nothing.

use std::{
    io,
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    SinkExt, StreamExt,
    future::BoxFuture,
    stream::{SplitSink, SplitStream},
};
use lmao_events::{AnyEvent, Category, Position, StreamId, Version};
use lmao_ports::{Frame, Span};
use poem::{
    IntoResponse, Response,
    web::websocket::{CloseCode, Message, WebSocket, WebSocketConfig, WebSocketStream},
};
use poem_openapi::{
    ApiResponse, OpenApi,
    param::{Path, Query},
    registry::{MetaResponse, MetaResponses, Registry},
};
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::{
    Tag,
    frames::{Sent, Shown, about, closed},
};
use crate::{
    app::App,
    context::{Context, User},
    error::ApiError,
    position,
    rates::Class,
    turn::{self, Say, Session},
    watch::{UNHINTED, Watch},
};

/// How often the client is asked whether it is still there; twice without a sign, and it is not.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How long nothing may be said before the socket is closed.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// How long a client may take to accept a frame: nothing is queued for it.
const SLOW: Duration = Duration::from_secs(30);
/// Commits that are read at once.
const PAGE: usize = 64;
/// How long the closing handshake may take.
const CLOSING: Duration = Duration::from_secs(2);
/// How the error begins that tells of a frame beyond the limit.
const TOO_LARGE: &str = "Space limit exceeded";

/// A switch to WebSocket.
struct Upgraded(Response);

impl IntoResponse for Upgraded {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for Upgraded {
    fn meta() -> MetaResponses {
        let description = "From here on, frames: see docs/API.md.";
        let response =
            MetaResponse { description, status: Some(101), status_range: None, content: vec![], headers: vec![] };
        MetaResponses { responses: vec![response] }
    }

    fn register(_: &mut Registry) {}
}

super::routes! {
    /// `/api/v1/chat/ws`
    Socket
}

#[OpenApi(tag = "Tag::Chat")]
impl Socket {
    /// Talk
    ///
    /// A WebSocket; `new` as the session begins one with the first message. Frames are
    /// `{"type": "message|status|error", "content": …, "metadata": …}`; the client sends
    /// `{"type": "message", "content": …}`. Browsers may send their token as `?access_token=`.
    #[oai(path = "/api/v1/chat/ws/:session_id", method = "get", operation_id = "chat_socket")]
    async fn open(
        &self,
        context: Context,
        user: User,
        session_id: Path<String>,
        /// The `metadata.position` of the last frame that was seen: what came since is shown first.
        after: Query<Option<String>>,
        /// In place of the header, for browsers.
        #[oai(name = "access_token")]
        _token: Query<Option<String>>,
        socket: WebSocket,
    ) -> Result<Upgraded, ApiError> {
        let app = self.app()?.clone();
        let place = app.gates.sockets.clone().try_acquire_owned().map_err(|_| {
            let text = "too many sockets are open; try again in a moment";
            ApiError::passing("overloaded", text, Duration::from_secs(1))
        })?;
        let (id, session) = match session_id.0.as_str() {
            "new" => {
                let id = app.fresh_id();
                (id, Session::New(Some(id)))
            }
            id => {
                let id = turn::session_id(id)?;
                turn::owned(&app, user.0.id, id).await?;
                (id, Session::Known(id))
            }
        };
        let after = after.0.as_deref().filter(|after| !after.is_empty());
        let after = after.map(|text| position::parse(app.log, text)).transpose()?;
        let (watch, seen) = watch(&app, id, after).await?;
        let json = app.state.limits.json_bytes;
        let config = WebSocketConfig::default().max_message_size(Some(json)).max_frame_size(Some(json));
        let now = Instant::now();
        let expires = now + user.0.expires.since(app.now());
        let token = app.tasks.token();
        let (closed, sending) = (None, None);
        let (owner, heard, spoken) = (user.0.id, now, now);
        let talk =
            Talk { app, context, owner, id, session, watch, seen, open: 0, closed, sending, expires, heard, spoken };
        // poem wants what it calls to be `Sync`; it is called once.
        let talk = Mutex::new(talk);
        let run = move |stream| async move {
            let _held_while_it_runs = (place, token);
            talk.into_inner().unwrap_or_else(PoisonError::into_inner).run(stream).await;
        };
        Ok(Upgraded(socket.config(config).on_upgrade(run).into_response()))
    }
}

/// A watch on what the client has not seen, and the position that it has.
async fn watch(app: &App, session: Uuid, after: Option<Position>) -> Result<(Watch, Position), ApiError> {
    let stream = StreamId::new(Category::Session, session);
    let mut watch = Watch::open(app, stream).await;
    let tail = app.state.journal.tail().await?;
    let head = app.state.journal.head(stream).await?;
    match (head, after) {
        (Some(head), Some(after)) if head.position > after => watch.from(Version(1)),
        (Some(head), _) => watch.after(head),
        (None, _) => {}
    }
    Ok((watch, after.unwrap_or(tail)))
}

/// One open socket.
struct Talk {
    app: Arc<App>,
    context: Context,
    owner: Uuid,
    id: Uuid,
    session: Session,
    watch: Watch,
    /// The position that the client has seen.
    seen: Position,
    /// Messages of this socket that wait for their answers.
    open: usize,
    /// The last message that was answered: tokens that come later are late.
    closed: Option<Uuid>,
    /// A message on its way to the session: the next one is read when it is there.
    sending: Option<Sending>,
    expires: Instant,
    heard: Instant,
    spoken: Instant,
}

type Sending = BoxFuture<'static, Result<(), ApiError>>;
type Sink = SplitSink<WebSocketStream, Message>;
type Source = SplitStream<WebSocketStream>;
/// Why a socket ends: what its close frame says.
type End = (CloseCode, &'static str);

impl Talk {
    async fn run(mut self, socket: WebSocketStream) {
        let (mut sink, mut source) = socket.split();
        let Err((code, reason)) = self.talk(&mut sink, &mut source).await else { return };
        let farewell = async {
            sink.send(Message::close_with(code, reason)).await.ok();
            // The client's close frame; whatever else it still says is not heard.
            while let Some(Ok(message)) = source.next().await {
                if message.is_close() {
                    return;
                }
            }
            if code == CloseCode::Size {
                // The rest of the frame is not read: to hang up on it takes back what the client has not read yet.
                std::future::pending::<()>().await;
            }
        };
        tokio::time::timeout(CLOSING, farewell).await.ok();
    }

    async fn talk(&mut self, sink: &mut Sink, source: &mut Source) -> Result<(), End> {
        let closing = self.app.closing.clone();
        let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.show(sink, Shown::connected(self.id)).await?;
        loop {
            self.catch_up(sink).await?;
            tokio::select! {
                () = closing.cancelled() => return Err((CloseCode::Away, "the server is shutting down")),
                () = tokio::time::sleep_until(self.expires) => return Err((CloseCode::Policy, "the token has expired")),
                _ = heartbeat.tick() => self.beat(sink).await?,
                () = tokio::time::sleep(UNHINTED), if self.open > 0 => self.watch.doubt(),
                message = source.next(), if self.sending.is_none() => match message {
                    Some(Ok(message)) => {
                        if !self.hear(sink, message).await? {
                            return Ok(());
                        }
                    }
                    Some(Err(error)) => return self.broken(sink, &error).await,
                    None => return Ok(()),
                },
                sent = sent(&mut self.sending) => {
                    self.sending = None;
                    match sent {
                        Ok(()) => {
                            self.session = Session::Known(self.id);
                            self.open += 1;
                            self.watch.doubt();
                        }
                        Err(error) => self.show(sink, Shown::error(&error)).await?,
                    }
                }
                frame = self.watch.frame() => self.live(sink, frame).await?,
            }
        }
    }

    /// Takes in what the client sent; `false` when it has left.
    async fn hear(&mut self, sink: &mut Sink, message: Message) -> Result<bool, End> {
        self.heard = Instant::now();
        match message {
            Message::Text(text) => {
                self.spoken = self.heard;
                match Sent::parse(&text) {
                    Ok(Sent::Message { content, context }) => {
                        let context = context.unwrap_or_default();
                        let say = Say { owner: self.owner, session: self.session, content, context, command: None };
                        // A trace of its own: a socket may stay open for days.
                        let span = Span::request(|| "chat message".into(), self.context.traceparent());
                        let (app, request) = (self.app.clone(), self.context.within(&span));
                        self.sending = Some(Box::pin(async move {
                            app.count(say.owner, Class::Requests).await?;
                            span.run(turn::say(&app, &request, say)).await.map(|_| ())
                        }));
                    }
                    Err(error) => self.show(sink, Shown::error(&error)).await?,
                }
            }
            Message::Binary(_) => {
                let error = ApiError::unprocessable("bad_frame", "frames are text: JSON");
                self.show(sink, Shown::error(&error)).await?;
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Nothing more can be heard. Who sent a frame that is too large is told so.
    async fn broken(&mut self, sink: &mut Sink, error: &io::Error) -> Result<(), End> {
        // The framework gives what is wrong with a frame as text only.
        if !error.to_string().starts_with(TOO_LARGE) {
            return Ok(());
        }
        let limit = self.app.state.limits.json_bytes;
        let error = ApiError::too_large("frame_too_large", format!("a frame has at most {limit} bytes; connect again"));
        self.show(sink, Shown::error(&error.with("limit", limit))).await?;
        Err((CloseCode::Size, "a frame is too large"))
    }

    /// Shows a live frame, unless it is late.
    async fn live(&mut self, sink: &mut Sink, frame: Frame) -> Result<(), End> {
        let late = about(&frame).is_some_and(|message| self.closed == Some(message));
        match Shown::of_live(self.id, frame) {
            Some(shown) if !late => self.show(sink, shown).await,
            _ => Ok(()),
        }
    }

    /// Shows what was recorded and is not shown yet.
    async fn catch_up(&mut self, sink: &mut Sink) -> Result<(), End> {
        loop {
            let mut page: Vec<(Position, Vec<AnyEvent>)> = Vec::new();
            let seen = self.seen;
            let read = self.watch.read(&self.app, |commit, events| {
                if commit.position > seen {
                    page.push((commit.position, events.to_vec()));
                }
                if page.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            if let Err(error) = read.await {
                self.show(sink, Shown::error(&error)).await?;
                return Err((CloseCode::Error, "the session cannot be read; come back in a moment"));
            }
            let last = page.len() < PAGE;
            for (position, events) in page {
                self.commit(sink, position, &events).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    async fn commit(&mut self, sink: &mut Sink, position: Position, events: &[AnyEvent]) -> Result<(), End> {
        self.seen = position;
        for event in events {
            if let Some(message) = closed(event) {
                self.closed = Some(message);
                self.open = self.open.saturating_sub(1);
            }
            if let Some(shown) = Shown::of_event(self.id, event) {
                self.spoken = Instant::now();
                self.show(sink, shown).await?;
            }
        }
        Ok(())
    }

    async fn beat(&mut self, sink: &mut Sink) -> Result<(), End> {
        self.watch.doubt();
        // While a message is on its way nothing is heard.
        if self.heard.elapsed() > HEARTBEAT * 2 && self.sending.is_none() {
            return Err((CloseCode::Away, "the client does not answer"));
        }
        if self.spoken.elapsed() > IDLE {
            return Err((CloseCode::Away, "nothing was said for a while"));
        }
        write(sink, Message::ping([])).await
    }

    async fn show(&mut self, sink: &mut Sink, shown: Shown) -> Result<(), End> {
        write(sink, Message::text(shown.at(self.app.position(self.seen)))).await
    }
}

/// The outcome of the message on its way; never, when there is none.
async fn sent(sending: &mut Option<Sending>) -> Result<(), ApiError> {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

async fn write(sink: &mut Sink, message: Message) -> Result<(), End> {
    let slow = (CloseCode::Policy, "the client is too slow");
    let gone = (CloseCode::Away, "the client is gone");
    tokio::time::timeout(SLOW, sink.send(message)).await.map_err(|_| slow)?.map_err(|_| gone)
}
