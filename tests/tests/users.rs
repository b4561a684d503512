//! Who uses the system while parts of it are killed: clients that talk, clients that upload, and one that only looks. Each
//! remembers what it was promised. They know no more than any user: the API, where to find it, and that any server may be gone
//! at any moment.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::support::{Client, Reply};

/// Between two attempts, and between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Messages that go out at once, at most; more than eight would be refused.
const BURST: u32 = 3;
/// After so many bursts a session is left for a new one.
const BURSTS: u32 = 8;

/// What all clients share.
#[derive(Clone)]
pub(crate) struct World {
    client: Client,
    /// Where servers are; none while they are not. Each attempt goes to the next one.
    places: watch::Receiver<Vec<String>>,
    turn: Arc<AtomicUsize>,
    ending: Arc<AtomicBool>,
    attempts: Attempts,
    sessions: Arc<Mutex<Vec<String>>>,
}

/// Whether the server at this address was itself disturbed since then: then it owes no answer.
type Excuse = Arc<dyn Fn(&str, Instant) -> bool + Send + Sync>;

/// How long an attempt may take, and what came of all of them.
#[derive(Clone)]
pub(crate) struct Attempts {
    deadline: Duration,
    excused: Excuse,
    tally: Arc<Mutex<Tally>>,
}

/// What came of attempts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// All of them.
    pub(crate) sent: u32,
    /// Answered "later": 429 or 503, by reason.
    pub(crate) later: BTreeMap<String, u32>,
    /// Not answered by a server that was itself disturbed.
    pub(crate) broken: u32,
    /// Not answered in time by a server that was not: where, and after how long or why.
    pub(crate) overdue: Vec<String>,
    /// The longest time that an answer took of a server that was not disturbed meanwhile.
    pub(crate) longest: Duration,
}

impl Attempts {
    /// None yet.
    pub(crate) fn new(deadline: Duration, excused: impl Fn(&str, Instant) -> bool + Send + Sync + 'static) -> Self {
        Self { deadline, excused: Arc::new(excused), tally: Arc::default() }
    }

    /// What came of them so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().expect("nobody panics with it").clone()
    }

    /// Sends a request to the server at `place`; nothing when it did not answer.
    async fn attempt(
        &self,
        client: Client,
        place: &str,
        send: impl AsyncFn(Client) -> reqwest::Result<Reply>,
    ) -> Option<Reply> {
        let begun = Instant::now();
        let sent = timeout(self.deadline, send(client)).await;
        let (took, excused) = (begun.elapsed(), (self.excused)(place, begun));
        let mut tally = self.tally.lock().expect("nobody panics with it");
        tally.sent += 1;
        match sent {
            Ok(Ok(reply)) => {
                if !excused {
                    tally.longest = tally.longest.max(took);
                }
                if is_passing(&reply) {
                    *tally.later.entry(reply.reason().to_owned()).or_default() += 1;
                }
                return Some(reply);
            }
            _ if excused => tally.broken += 1,
            Ok(Err(error)) => tally.overdue.push(format!("{place} broke off after {took:?}: {error:?}")),
            Err(_) => tally.overdue.push(format!("{place} did not answer within {took:?}")),
        }
        None
    }
}

/// A conversation, and what was promised about it.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) session: String,
    pub(crate) accepted: Vec<Accepted>,
    /// Sent once, without a key, and not answered: each may have been taken, once.
    pub(crate) uncertain: Vec<String>,
}

/// A message that the server took.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) text: String,
    /// Bursts go out one after another.
    pub(crate) burst: u32,
    pub(crate) message_id: String,
    /// The answer, if it came with the reply.
    pub(crate) response: Option<String>,
}

/// What an uploader was promised.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// Ids by file name.
    pub(crate) accepted: BTreeMap<String, String>,
    /// Sent once and not answered: each may have been taken, once.
    pub(crate) uncertain: Vec<String>,
}

/// What was seen, by id: it may not vanish or change any more.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Session and content.
    pub(crate) messages: BTreeMap<String, (String, String)>,
    /// File names.
    pub(crate) documents: BTreeMap<String, String>,
}

impl World {
    /// Of a user, wherever servers are.
    pub(crate) fn new(client: Client, places: watch::Receiver<Vec<String>>, attempts: Attempts) -> Self {
        let (turn, ending, sessions) = (Arc::default(), Arc::default(), Arc::default());
        Self { client, places, turn, ending, attempts, sessions }
    }

    /// Nobody begins anything new; what was begun is brought to its end.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.ending.load(Ordering::Relaxed)
    }

    /// Where the next attempt goes, once there is a server: after an attempt that failed, elsewhere.
    async fn place(&self) -> String {
        let mut places = self.places.clone();
        let places = places.wait_for(|places| !places.is_empty()).await.expect("the test outlives its clients");
        places[self.turn.fetch_add(1, Ordering::Relaxed) % places.len()].clone()
    }

    /// Sends a request once; nothing when that leaves open whether it arrived.
    async fn attempt(&self, send: impl AsyncFn(Client) -> reqwest::Result<Reply>) -> Option<Reply> {
        let place = self.place().await;
        let reply = self.attempts.attempt(self.client.at(&place), &place, send).await;
        reply.filter(|reply| !is_passing(reply))
    }

    /// Sends the same request until it is answered for good.
    pub(crate) async fn insist(&self, send: impl AsyncFn(Client) -> reqwest::Result<Reply>) -> Reply {
        loop {
            match self.attempt(&send).await {
                Some(reply) => return reply,
                None => sleep(PAUSE).await,
            }
        }
    }

    /// Says something until it was heard, and sometimes again.
    async fn say(&self, session: Option<&str>, text: &str, again: bool) -> Reply {
        let key = format!("key of {text}");
        let said = self.insist(async |client| client.chat(session, text, Some(&key)).await).await;
        if again {
            let repeated = self.insist(async |client| client.chat(session, text, Some(&key)).await).await;
            for id in ["session_id", "message_id"] {
                assert_eq!(told(&said, id), told(&repeated, id), "a retry finds the first outcome");
            }
        }
        said
    }
}

/// "Later": nothing is known of the request, or nothing was done. A message that failed for good has an id.
fn is_passing(reply: &Reply) -> bool {
    [429, 503].contains(&reply.status) && reply.body["error"]["details"]["message_id"].is_null()
}

/// What a chat reply, or its error, says about the message.
fn told(reply: &Reply, field: &str) -> String {
    let details = &reply.body["error"]["details"][field];
    let places = [&reply.body[field], &reply.body["metadata"][field], details];
    let value = places.iter().find_map(|value| value.as_str());
    value.unwrap_or_else(|| panic!("no {field} in {}: {}", reply.status, reply.body)).to_owned()
}

fn accepted(text: String, burst: u32, reply: &Reply) -> Accepted {
    let response = (reply.status == 200).then(|| reply.body["response"].as_str().unwrap_or_default().to_owned());
    Accepted { text, burst, message_id: told(reply, "message_id"), response }
}

/// Talks in one session after another.
pub(crate) async fn talk(world: World, name: String, seed: u64) -> Vec<Talk> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut talks = vec![];
    while world.goes_on() {
        let text = format!("{name} {} opens: when do cranes dance?", talks.len());
        let opened = world.say(None, &text, random.random_bool(0.3)).await;
        let session = told(&opened, "session_id");
        world.sessions.lock().expect("nobody panics with it").push(session.clone());
        let accepted = vec![accepted(text, 0, &opened)];
        let mut talk = Talk { session, accepted, uncertain: vec![] };
        for burst in 1..=BURSTS {
            if !world.goes_on() {
                break;
            }
            let messages = (0..random.random_range(1..=BURST)).map(|number| {
                let text = format!("{name} {} says {burst}.{number}: where do cranes nest?", talks.len());
                (text, random.random_bool(0.7), random.random_bool(0.3))
            });
            burst_of(&world, &mut talk, burst, messages.collect()).await;
            sleep(PAUSE * random.random_range(0..3)).await;
        }
        talks.push(talk);
    }
    talks
}

/// Messages that go out at once: each with its text, whether it has a key, and whether it is then sent again.
async fn burst_of(world: &World, talk: &mut Talk, burst: u32, messages: Vec<(String, bool, bool)>) {
    let session = talk.session.clone();
    let replies = join_all(messages.into_iter().map(async |(text, is_keyed, again)| {
        if is_keyed {
            let reply = world.say(Some(&session), &text, again).await;
            return (text, Some(reply));
        }
        let reply = world.attempt(async |client| client.chat(Some(&session), &text, None).await).await;
        (text, reply)
    }));
    for (text, reply) in replies.await {
        match reply {
            Some(reply) => talk.accepted.push(accepted(text, burst, &reply)),
            None => talk.uncertain.push(text),
        }
    }
}

/// Uploads one file after another, no two alike.
pub(crate) async fn upload(world: World, name: String, seed: u64) -> Shelf {
    let mut random = StdRng::seed_from_u64(seed);
    let mut shelf = Shelf::default();
    for number in 0.. {
        if !world.goes_on() {
            break;
        }
        let sections = if random.random_bool(0.1) { 200 } else { random.random_range(1..=8) };
        let extension = if random.random_bool(0.5) { "md" } else { "txt" };
        let (file, text) = (format!("{name}-{number}.{extension}"), document(&name, number, sections));
        let key = random.random_bool(0.7).then(|| format!("key of {file}"));
        let (insists, again) = (key.is_some() || random.random_bool(0.5), random.random_bool(0.3));
        let send = async |client: Client| client.upload(&file, text.clone().into_bytes(), key.as_deref()).await;
        let reply = if insists { Some(world.insist(send).await) } else { world.attempt(send).await };
        let Some(reply) = reply else {
            shelf.uncertain.push(file);
            continue;
        };
        let id = told(&reply, "document_id");
        if again {
            let repeated = world.insist(send).await;
            assert_eq!(id, told(&repeated, "document_id"), "{file} sent again is the same document");
        }
        shelf.accepted.insert(file, id);
        sleep(PAUSE * random.random_range(0..3)).await;
    }
    shelf
}

fn document(name: &str, number: u32, sections: u32) -> String {
    let section = |section| {
        format!(
            "# Part {section} of {name} {number}\n\nCrane number {section} of flock {name} {number} dances in spring. \
             It nests in the reeds of marsh {number}, and leaves for the south in autumn.\n\n"
        )
    };
    (1..=sections).map(section).collect()
}

/// Looks, and remembers what was there.
pub(crate) async fn look(world: World, seed: u64) -> Seen {
    let mut random = StdRng::seed_from_u64(seed);
    let mut seen = Seen::default();
    while world.goes_on() {
        sleep(PAUSE * random.random_range(1..5)).await;
        let session = {
            let sessions = world.sessions.lock().expect("nobody panics with it");
            (!sessions.is_empty()).then(|| sessions[random.random_range(0..sessions.len())].clone())
        };
        let shown = world.attempt(async |client| client.get("/api/v1/documents?limit=200").await).await;
        for document in shown.iter().flat_map(|reply| reply.body["documents"].as_array().into_iter().flatten()) {
            seen.documents.insert(text(&document["document_id"]), text(&document["filename"]));
        }
        let Some(session) = session else { continue };
        let path = format!("/api/v1/sessions/{session}/messages?limit=200");
        let shown = world.attempt(async |client| client.get(&path).await).await;
        for message in shown.iter().flat_map(|reply| reply.body["messages"].as_array().into_iter().flatten()) {
            let known = (session.clone(), text(&message["content"]));
            let before = seen.messages.insert(text(&message["id"]), known.clone());
            assert!(before.is_none_or(|before| before == known), "a message changed: {message}");
        }
    }
    seen
}

/// A string of a JSON body.
pub(crate) fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}
