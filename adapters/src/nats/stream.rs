//! The operations on one JetStream stream that the stores are made of: publish with an expectation, read what the leader has,
//! read many by one batched direct get, and forget.
//!
//! A direct get may be answered by a replica that lags; whatever needs the truth asks the leader.

use std::{sync::Arc, time::Duration};

use async_nats::{
    HeaderMap, Message, StatusCode,
    client::{Request, RequestErrorKind},
    jetstream::{
        self, ErrorCode,
        publish::PublishAck,
        response::Response,
        stream::{DeleteMessageErrorKind, RawMessageErrorKind},
    },
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lmao_ports::Unavailable;
use serde_json::json;

use super::{
    Limits, Nats, STORE,
    migrate::{self, Definition},
    patience::Patience,
};

/// Names the sequence that a subject's last message must have.
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// Another publish on the subject is in flight: what the leader shows proves nothing yet.
const IN_FLIGHT: ErrorCode = ErrorCode(10164);
/// Bytes of messages in one batch.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Subjects that are listed at most: a listing is for a folder or a handful of keys.
const MAX_SUBJECTS: usize = 1_000_000;
/// The end of a batched direct get.
const END_OF_BATCH: u16 = 204;

/// A message as stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) subject: String,
    pub(super) sequence: u64,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// Messages of one subject, in order.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) messages: Vec<Stored>,
    /// Whether the server that answered has more.
    pub(super) more: bool,
}

/// What a publish expects of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// Anything.
    Anything,
    /// That its last message has this sequence; 0 when it has none.
    Last(u64),
}

/// Why a publish is not known to have been stored.
#[derive(Debug)]
pub(super) enum Unpublished {
    /// The subject's last message is not the expected one. An earlier publish of the same may be the reason.
    Stale,
    /// Another publish on the subject is in flight.
    InFlight,
    /// It was not stored and never will be.
    Refused(Unavailable),
    /// It was not stored; later it may be.
    NotStored(Unavailable),
    /// It may be stored, or may yet be.
    Lost(Unavailable),
}

impl Unpublished {
    pub(super) fn into_unavailable(self) -> Unavailable {
        match self {
            Self::Stale | Self::InFlight => {
                Unavailable::plain(STORE, "somebody else wrote at the same time; try again")
            }
            Self::Refused(error) | Self::NotStored(error) | Self::Lost(error) => error,
        }
    }
}

/// Why an attempt failed.
enum Failed {
    Passing(Unavailable),
    Lasting(Unavailable),
}

/// One stream.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    nats: Nats,
    name: Arc<str>,
    root: Arc<str>,
    handle: jetstream::stream::Stream<()>,
    limits: Limits,
}

impl Stream {
    /// The stream, which must have been made by [`migrate`].
    pub(super) async fn open(nats: &Nats, definition: Definition, limits: Limits) -> Result<Self, Unavailable> {
        migrate::existing(nats, definition).await?;
        let name = definition.name(nats);
        let handle = nats
            .jetstream()
            .get_stream_no_info(&name)
            .await
            .map_err(|error| Unavailable::new(STORE, format!("{name} is no name of a stream"), error))?;
        Ok(Self { nats: nats.clone(), name: name.into(), root: definition.root(nats).into(), handle, limits })
    }

    pub(super) fn nats(&self) -> &Nats {
        &self.nats
    }

    pub(super) fn handle(&self) -> &jetstream::stream::Stream<()> {
        &self.handle
    }

    /// The operations' limits.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// A subject of the stream.
    pub(super) fn subject(&self, rest: &str) -> String {
        format!("{}{rest}", self.root)
    }

    /// What follows the root in a subject of the stream.
    pub(super) fn rest<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&*self.root)
    }

    /// Publishes once and waits for the acknowledgement, at most `wait`. Returns the sequence.
    pub(super) async fn publish(
        &self,
        subject: &str,
        mut headers: HeaderMap,
        payload: Bytes,
        expect: Expect,
        wait: Duration,
    ) -> Result<u64, Unpublished> {
        if let Expect::Last(sequence) = expect {
            headers.insert(EXPECTED, sequence.to_string());
        }
        let mut request = Request::new().payload(payload).timeout(Some(wait));
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        let sent = self.nats.client().send_request(subject.to_owned(), request);
        // Its own timeout begins when the client has taken it.
        let answer = match tokio::time::timeout(wait, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.unsent(error)),
            Err(late) => return Err(Unpublished::Lost(self.late(late))),
        };
        self.nats.answered();
        match serde_json::from_slice::<Response<PublishAck>>(&answer.payload) {
            Ok(Response::Ok(ack)) => Ok(ack.sequence),
            Ok(Response::Err { error }) => Err(self.unstored(error)),
            Err(error) => {
                let message = format!("the acknowledgement of {} is not understood", self.name);
                Err(Unpublished::Lost(Unavailable::new(STORE, message, error)))
            }
        }
    }

    /// Publishes behind the message with this sequence (0: as the first of its subject), once, however often it is tried.
    /// `None` when another message stands there. The payload must be unlike any that others publish there.
    pub(super) async fn publish_once(
        &self,
        subject: &str,
        payload: Bytes,
        after: u64,
    ) -> Result<Option<u64>, Unavailable> {
        let mut patience = Patience::new(self.limits);
        loop {
            if !patience.connected(&self.nats).await {
                return Err(self.away());
            }
            let (expect, wait) = (Expect::Last(after), patience.attempt());
            let failed = match self.publish(subject, HeaderMap::new(), payload.clone(), expect, wait).await {
                Ok(sequence) => return Ok(Some(sequence)),
                Err(Unpublished::Refused(error)) => return Err(error),
                Err(unpublished @ Unpublished::Stale) => match self.last_once(subject, patience.attempt()).await {
                    Ok(Some(last)) if last.sequence > after => {
                        return Ok((last.payload == payload).then_some(last.sequence));
                    }
                    // Erased since, by whoever may do that.
                    Ok(None) if after > 0 => return Ok(None),
                    Ok(_) => unpublished.into_unavailable(),
                    Err(error) => error,
                },
                Err(unpublished) => unpublished.into_unavailable(),
            };
            if !patience.again().await {
                return Err(failed);
            }
        }
    }

    /// Publishes what may be stored twice, and tries again within the limits.
    pub(super) async fn publish_patiently(&self, subject: &str, payload: Bytes) -> Result<u64, Unavailable> {
        let mut patience = Patience::new(self.limits);
        loop {
            if !patience.connected(&self.nats).await {
                return Err(self.away());
            }
            let (expect, wait) = (Expect::Anything, patience.attempt());
            let failed = match self.publish(subject, HeaderMap::new(), payload.clone(), expect, wait).await {
                Ok(sequence) => return Ok(sequence),
                Err(Unpublished::Refused(error)) => return Err(error),
                Err(error) => error.into_unavailable(),
            };
            if !patience.again().await {
                return Err(failed);
            }
        }
    }

    fn unsent(&self, error: async_nats::RequestError) -> Unpublished {
        match error.kind() {
            RequestErrorKind::NoResponders => Unpublished::NotStored(self.nobody(error)),
            RequestErrorKind::MaxPayloadExceeded => {
                let message = "the message is larger than the server takes; raise max_payload there";
                Unpublished::Refused(Unavailable::new(STORE, message, error))
            }
            RequestErrorKind::InvalidSubject => {
                Unpublished::Refused(Unavailable::new(STORE, "the subject is not valid", error))
            }
            RequestErrorKind::TimedOut | RequestErrorKind::Other => Unpublished::Lost(self.late(error)),
        }
    }

    fn unstored(&self, error: jetstream::Error) -> Unpublished {
        let said = |message: &str, error| Unavailable::new(STORE, format!("{}: {message}", self.name), error);
        let too_full = error.to_string().contains("exceeded");
        match error.error_code() {
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE => Unpublished::Stale,
            IN_FLIGHT => Unpublished::InFlight,
            ErrorCode::STREAM_STORE_FAILED if too_full => {
                Unpublished::Refused(said("a limit of the stream is reached; run `lmao migrate`", error))
            }
            // What failed while it was written may be found after a restart.
            ErrorCode::STREAM_STORE_FAILED => {
                Unpublished::Lost(said("storing failed; check the server's disk and its log", error))
            }
            ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
                Unpublished::Refused(said("the message is larger than the stream takes; run `lmao migrate`", error))
            }
            ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::INSUFFICIENT_RESOURCES => {
                Unpublished::Refused(said("the server has no room left; give it more disk and try again", error))
            }
            _ if error.code() == 400 => Unpublished::Refused(said("the server refuses it", error)),
            _ => Unpublished::NotStored(said("it cannot be stored now; try again", error)),
        }
    }

    /// The last message of a subject, as the leader has it.
    pub(super) async fn last(&self, subject: &str) -> Result<Option<Stored>, Unavailable> {
        self.patiently(move |wait| async move {
            self.asked_of_leader(self.handle.raw_message_builder().last_by_subject(subject).send(), wait).await
        })
        .await
    }

    /// As [`Stream::last`], once, in at most this time.
    pub(super) async fn last_once(&self, subject: &str, wait: Duration) -> Result<Option<Stored>, Unavailable> {
        let asked = self.asked_of_leader(self.handle.raw_message_builder().last_by_subject(subject).send(), wait);
        asked.await.map_err(|(Failed::Passing(error) | Failed::Lasting(error))| error)
    }

    /// The first message of a subject from a sequence on, as the leader has it.
    pub(super) async fn next(&self, subject: &str, from: u64) -> Result<Option<Stored>, Unavailable> {
        self.patiently(move |wait| async move {
            let request = self.handle.raw_message_builder().sequence(from).next_by_subject(subject);
            self.asked_of_leader(request.send(), wait).await
        })
        .await
    }

    async fn asked_of_leader(
        &self,
        asked: impl Future<Output = Result<jetstream::message::StreamMessage, jetstream::stream::RawMessageError>>,
        wait: Duration,
    ) -> Result<Option<Stored>, Failed> {
        let error = match tokio::time::timeout(wait, asked).await {
            Err(late) => return Err(Failed::Passing(self.late(late))),
            Ok(Ok(found)) => {
                let (subject, sequence) = (found.subject.to_string(), found.sequence);
                return Ok(Some(Stored { subject, sequence, headers: found.headers, payload: found.payload }));
            }
            Ok(Err(error)) => error,
        };
        match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            RawMessageErrorKind::InvalidSubject => {
                Err(Failed::Lasting(Unavailable::new(STORE, "the subject is not valid", error)))
            }
            RawMessageErrorKind::JetStream(_) | RawMessageErrorKind::Other => {
                Err(Failed::Passing(self.no_leader(error)))
            }
        }
    }

    /// Up to `count` messages of a subject from a sequence on, as some replica has them.
    pub(super) async fn batch(&self, subject: &str, from: u64, count: usize) -> Result<Batch, Unavailable> {
        self.patiently(move |wait| self.batch_once(subject, from, count, wait)).await
    }

    async fn batch_once(&self, subject: &str, from: u64, count: usize, wait: Duration) -> Result<Batch, Failed> {
        let body = json!({ "seq": from, "next_by_subj": subject, "batch": count, "max_bytes": MAX_BATCH_BYTES });
        let client = self.nats.client();
        let inbox = client.new_inbox();
        let begun = async {
            let answers = client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
            let subject = format!("$JS.API.DIRECT.GET.{}", self.name);
            let sent = client.publish_with_reply(subject, inbox, body.to_string().into()).await;
            sent.map(|()| answers).map_err(|error| error.to_string())
        };
        let mut answers = match tokio::time::timeout(wait, begun).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(text)) => return Err(Failed::Passing(self.late(text))),
            Err(late) => return Err(Failed::Passing(self.late(late))),
        };
        let (mut messages, mut before) = (vec![], 0);
        loop {
            let answer = match tokio::time::timeout(wait, answers.next()).await {
                Ok(Some(answer)) => answer,
                Ok(None) => return Err(Failed::Passing(self.late("the subscription ended"))),
                Err(late) => return Err(Failed::Passing(self.late(late))),
            };
            let status = answer.status.map(u16::from);
            if status == Some(u16::from(StatusCode::NOT_FOUND)) {
                return Ok(Batch { messages, more: false });
            }
            if status == Some(u16::from(StatusCode::NO_RESPONDERS)) {
                return Err(Failed::Passing(self.nobody("no responders")));
            }
            // Each answer names the one before: after a reconnect in their midst some may be missing.
            if number(&answer, "Nats-Last-Sequence") != Some(before) {
                return Err(Failed::Passing(self.late("some answers of a batch are missing")));
            }
            match status {
                None => {
                    let stored =
                        stored(answer).ok_or_else(|| Failed::Passing(self.late("an answer has no sequence")))?;
                    before = stored.sequence;
                    messages.push(stored);
                }
                Some(END_OF_BATCH) => {
                    let more = number(&answer, "Nats-Num-Pending").is_some_and(|pending| pending > 0);
                    return Ok(Batch { messages, more });
                }
                Some(other) => {
                    let text = answer.description.unwrap_or_default();
                    let said = format!("a batched direct get was answered {other} {text}");
                    return Err(Failed::Lasting(self.late(said)));
                }
            }
        }
    }

    /// The subjects that match, in any order, as the leader has them.
    pub(super) async fn subjects(&self, filter: &str) -> Result<Vec<String>, Unavailable> {
        self.patiently(move |_| async move {
            let listed = async {
                let found = self.handle.info_with_subjects(filter).await.map_err(|error| error.to_string())?;
                let subjects = found.map_ok(|(subject, _)| subject).take(MAX_SUBJECTS + 1).try_collect::<Vec<_>>();
                subjects.await.map_err(|error| error.to_string())
            };
            // A long list comes in many answers.
            match tokio::time::timeout(self.limits.deadline, listed).await {
                Ok(Ok(subjects)) if subjects.len() > MAX_SUBJECTS => {
                    let message =
                        format!("{} has over {MAX_SUBJECTS} subjects like {filter}; too many to list", self.name);
                    Err(Failed::Lasting(Unavailable::plain(STORE, message)))
                }
                Ok(Ok(subjects)) => Ok(subjects),
                Ok(Err(text)) => Err(Failed::Passing(self.no_leader(text))),
                Err(late) => Err(Failed::Passing(self.late(late))),
            }
        })
        .await
    }

    /// Removes all messages whose subjects match.
    pub(super) async fn purge(&self, filter: &str) -> Result<(), Unavailable> {
        self.patiently(move |wait| async move {
            match tokio::time::timeout(wait, self.handle.purge().filter(filter)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(Failed::Passing(self.no_leader(error))),
                Err(late) => Err(Failed::Passing(self.late(late))),
            }
        })
        .await
    }

    /// Removes one message and overwrites its bytes on the disk; fine if it is gone.
    pub(super) async fn erase(&self, sequence: u64) -> Result<(), Unavailable> {
        self.patiently(move |wait| async move {
            match tokio::time::timeout(wait, self.handle.delete_message(sequence)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => match error.kind() {
                    DeleteMessageErrorKind::JetStream(said)
                        if matches!(
                            said.error_code(),
                            ErrorCode::STREAM_MESSAGE_DELETE_FAILED
                                | ErrorCode::NO_MESSAGE_FOUND
                                | ErrorCode::SEQUENCE_NOT_FOUND
                        ) && said.to_string().contains("not found") =>
                    {
                        Ok(())
                    }
                    _ => Err(Failed::Passing(self.no_leader(error))),
                },
                Err(late) => Err(Failed::Passing(self.late(late))),
            }
        })
        .await
    }

    /// The sequence of the last message of the stream; 0 when there is none.
    pub(super) async fn end(&self) -> Result<u64, Unavailable> {
        self.patiently(move |wait| async move {
            match tokio::time::timeout(wait, self.handle.get_info()).await {
                Ok(Ok(info)) => Ok(info.state.last_sequence),
                Ok(Err(error)) => Err(Failed::Passing(self.no_leader(error))),
                Err(late) => Err(Failed::Passing(self.late(late))),
            }
        })
        .await
    }

    /// Tries again within the limits what may be done twice.
    async fn patiently<T, F>(&self, attempt: impl Fn(Duration) -> F) -> Result<T, Unavailable>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let mut patience = Patience::new(self.limits);
        loop {
            if !patience.connected(&self.nats).await {
                return Err(self.away());
            }
            let error = match attempt(patience.attempt()).await.inspect(|_| self.nats.answered()) {
                Ok(done) => return Ok(done),
                Err(Failed::Lasting(error)) => return Err(error),
                Err(Failed::Passing(error)) => error,
            };
            if !patience.again().await {
                return Err(error);
            }
        }
    }

    /// There is no connection, or nobody answers on it.
    pub(super) fn away(&self) -> Unavailable {
        self.nats.away()
    }

    fn late(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Unavailable {
        let message = format!("{} does not answer in time; try again", self.name);
        self.nats.breaker().failed(&message);
        Unavailable::new(STORE, message, error)
    }

    fn nobody(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Unavailable {
        self.nats.has_no_leader();
        self.no_leader(error)
    }

    fn no_leader(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Unavailable {
        let message = format!("{} has no leader now; try again, or check the server if it stays so", self.name);
        Unavailable::new(STORE, message, error)
    }
}

fn number(message: &Message, header: &str) -> Option<u64> {
    message.headers.as_ref()?.get(header)?.as_str().parse().ok()
}

fn stored(message: Message) -> Option<Stored> {
    let sequence = number(&message, "Nats-Sequence")?;
    let headers = message.headers?;
    let subject = headers.get("Nats-Subject")?.as_str().to_owned();
    Some(Stored { subject, sequence, headers, payload: message.payload })
}
