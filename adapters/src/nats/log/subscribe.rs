//! Following the log: an ephemeral consumer from a position on, made again wherever it stopped whenever the server, the
//! connection or the sequence of deliveries breaks off. Who follows all of it shares one with others ([`super::feed`]).

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use lmao_events::Position;
use lmao_ports::{Filter, ReadError, Recorded};

use super::{Shared, feed::Follower};
use crate::nats::stream::Stored;

/// Records asked for at once: at most 50 MiB.
const BATCH: usize = 100;
/// How long the server keeps a request for more.
const EXPIRES: Duration = Duration::from_secs(10);
/// How often an idle server says that it is there; two that are missing end the consumer.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long the server keeps a consumer that nobody asks.
const INACTIVE: Duration = Duration::from_secs(30);
/// How long making a consumer may take.
const OPEN: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) fn subscribe(
    log: Arc<Shared>,
    after: Position,
    filter: Filter,
) -> BoxStream<'static, Result<Recorded, ReadError>> {
    if filter == Filter::All {
        return stream::unfold(Follower::new(log, after), |mut follower| async move {
            let next = follower.next().await;
            Some((next, follower))
        })
        .boxed();
    }
    let subscription = Subscription::new(log, after.0, filter);
    stream::unfold(subscription, |mut subscription| async move {
        let next = subscription.next().await;
        Some((next, subscription))
    })
    .boxed()
}

/// One who follows the log by a consumer of their own.
pub(super) struct Subscription {
    log: Arc<Shared>,
    /// The sequence of the last message that was delivered or stands before the beginning.
    after: u64,
    filter: Filter,
    deliveries: Option<Deliveries>,
    pause: Duration,
}

/// What one consumer delivers.
struct Deliveries {
    messages: pull::Stream,
    /// Deliveries so far: the server counts them, too.
    count: u64,
}

impl Subscription {
    pub(super) fn new(log: Arc<Shared>, after: u64, filter: Filter) -> Self {
        Self { log, after, filter, deliveries: None, pause: FIRST_PAUSE }
    }

    /// The position of the last record that was delivered, or that it begins behind.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// The next record. Nothing but damage is an error.
    pub(super) async fn next(&mut self) -> Result<Recorded, ReadError> {
        loop {
            let delivered = match &mut self.deliveries {
                Some(deliveries) => deliveries.next().await,
                None => match self.open().await {
                    Ok(deliveries) => {
                        self.deliveries = Some(deliveries);
                        continue;
                    }
                    Err(reason) => Err(reason),
                },
            };
            let stored = match delivered {
                Ok(stored) => stored,
                Err(reason) => {
                    tracing::debug!(reason, after = self.after, "the subscription to the log begins anew");
                    self.deliveries = None;
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            };
            self.pause = FIRST_PAUSE;
            if stored.sequence > self.after {
                self.after = stored.sequence;
                return self.log.verified(stored);
            }
        }
    }

    async fn open(&self) -> Result<Deliveries, String> {
        let filter_subject = match &self.filter {
            Filter::All => self.log.stream.subject(">"),
            Filter::Category(category) => self.log.stream.subject(&format!("{category}.>")),
            Filter::Stream(stream) => self.log.subject(stream),
        };
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.after + 1 },
            ack_policy: AckPolicy::None,
            filter_subject,
            inactive_threshold: INACTIVE,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let opened = async {
            let consumer = self.log.stream.handle().create_consumer(config).await.map_err(|error| error.to_string())?;
            let messages = consumer.stream().max_messages_per_batch(BATCH).expires(EXPIRES).heartbeat(HEARTBEAT);
            messages.messages().await.map_err(|error| error.to_string())
        };
        let messages = tokio::time::timeout(OPEN, opened).await.map_err(|late| late.to_string())??;
        Ok(Deliveries { messages, count: 0 })
    }
}

impl Deliveries {
    async fn next(&mut self) -> Result<Stored, String> {
        let message = match self.messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the consumer ended".to_owned()),
        };
        let (sequence, count) = match message.info() {
            Ok(info) => (info.stream_sequence, info.consumer_sequence),
            Err(error) => return Err(error.to_string()),
        };
        if count != self.count + 1 {
            return Err(format!("delivery {count} came after delivery {}", self.count));
        }
        self.count = count;
        let (message, _) = message.split();
        let headers = message.headers.unwrap_or_default();
        Ok(Stored { subject: message.subject.to_string(), sequence, headers, payload: message.payload })
    }
}
