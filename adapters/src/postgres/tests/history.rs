//! A history of many people, with every kind of row and of text in it, the same for the same seed.

use lmao_events::{
    AnyEvent, Category, Failure, StreamId,
    document::{self, Step},
    session, tool_call, user,
};
use lmao_ports::conformance::fixtures::{History, answer, blob, id};
use serde_json::{Value, json};

/// Numbers that look random (Marsaglia's xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn text(&mut self) -> String {
        const TEXTS: [&str; 8] = [
            "Who owns a value?",
            "zero \0 inside",
            "the mark \u{10FFFF}0 itself",
            "it's \"quoted\" \\ \n\t\r\u{1}\u{7f}",
            "日本語 🦀 \u{202e}",
            "",
            "   ",
            "'); DROP TABLE users; --",
        ];
        let text = TEXTS[usize::try_from(self.roll(8)).unwrap()];
        text.repeat(usize::try_from(1 + self.roll(4)).unwrap())
    }

    fn json(&mut self, depth: u8) -> Value {
        match self.roll(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => json!(self.roll(2) == 0),
            2 => json!(self.text()),
            3 => json!(self.roll(u64::MAX)),
            4 => {
                const NUMBERS: [f64; 9] = [0.0, -0.0, 0.1, 1e16, 1e300, 5e-324, -2.5e-9, 123_456.789, 1e15];
                json!(NUMBERS[usize::try_from(self.roll(9)).unwrap()])
            }
            5 => (0..self.roll(4)).map(|_| self.json(depth - 1)).collect(),
            _ => self.object(depth - 1),
        }
    }

    fn object(&mut self, depth: u8) -> Value {
        Value::Object((0..self.roll(4)).map(|n| (format!("{n}{}", self.text()), self.json(depth))).collect())
    }
}

/// About `size` commits.
pub(super) fn history(seed: u64, size: usize) -> History {
    let (mut dice, mut history) = (Dice(seed), History::default());
    let (mut people, mut sessions, mut documents) = (vec![], vec![], vec![]);
    for n in 0.. {
        if history.commits.len() >= size {
            break;
        }
        match dice.roll(12) {
            0 => people.push(person(&mut history, &mut dice, n)),
            1 | 2 if !people.is_empty() => {
                let owner = people[usize::try_from(dice.roll(people.len() as u64)).unwrap()];
                let stream = StreamId::new(Category::Session, id(1_000_000 + n));
                history.commit(stream, [AnyEvent::Session(session::Opened { owner: id(owner) }.into())]);
                sessions.push(stream);
            }
            3 if !people.is_empty() => {
                let owner = people[usize::try_from(dice.roll(people.len() as u64)).unwrap()];
                documents.push(uploaded(&mut history, &mut dice, n, owner));
            }
            4 | 5 if !documents.is_empty() => {
                let at = usize::try_from(dice.roll(documents.len() as u64)).unwrap();
                if step(&mut history, &mut dice, documents[at]) {
                    documents.swap_remove(at);
                }
            }
            6 if !sessions.is_empty() => {
                let session = sessions[usize::try_from(dice.roll(sessions.len() as u64)).unwrap()];
                called(&mut history, &mut dice, n, session);
            }
            _ if !sessions.is_empty() => {
                let session = sessions[usize::try_from(dice.roll(sessions.len() as u64)).unwrap()];
                said(&mut history, &mut dice, n, session);
            }
            _ => {}
        }
    }
    history
}

fn person(history: &mut History, dice: &mut Dice, n: u128) -> u128 {
    let stream = StreamId::new(Category::User, id(100 + n));
    let (username, email) = (format!("{n}{}", dice.text()), format!("{n}@example.org"));
    let registered = user::Registered { id: stream.id, username, email, role: user::Role::User };
    history.commit(stream, [AnyEvent::User(registered.clone().into())]);
    if dice.roll(4) == 0 {
        let refused = StreamId::new(Category::User, id(100_000_000 + n));
        history.commit(refused, [AnyEvent::User(user::Registered { id: refused.id, ..registered }.into())]);
        let why = user::RegistrationRefused { field: user::Field::Username };
        history.commit(refused, [AnyEvent::User(why.into())]);
    }
    let login = (dice.roll(2) == 0).then(|| AnyEvent::User(user::LoggedIn {}.into()));
    history.commit(stream, [AnyEvent::User(user::Activated {}.into())].into_iter().chain(login));
    100 + n
}

fn said(history: &mut History, dice: &mut Dice, n: u128, session: StreamId) {
    let message_id = id(2_000_000 + n);
    let message = session::MessageReceived { message_id, content: dice.text(), context: dice.object(3) };
    history.commit(session, [AnyEvent::Session(message.into())]);
    let millis = dice.roll(90_000);
    let reply: session::Event = match dice.roll(3) {
        0 => session::ReplyFailed { message_id, failure: Failure::passing("busy", dice.text()), millis }.into(),
        _ => {
            let answer = answer(&dice.text());
            session::ReplyCompleted { message_id, answer, tasks_completed: 2, millis }.into()
        }
    };
    history.commit(session, [AnyEvent::Session(reply)]);
}

fn called(history: &mut History, dice: &mut Dice, n: u128, session: StreamId) {
    let stream = StreamId::new(Category::ToolCall, id(3_000_000 + n));
    let requested = tool_call::Requested {
        owner: id(1),
        session_id: (dice.roll(2) == 0).then_some(session.id),
        tool: "calculator".to_owned(),
        parameters: dice.json(3),
        repeatable: true,
        timeout_millis: 5000,
    };
    history.commit(stream, [AnyEvent::ToolCall(requested.into())]);
    let outcome = match dice.roll(4) {
        0 => tool_call::uncertain(),
        1 => tool_call::Outcome::Error(Failure::passing("busy", dice.text())),
        _ => tool_call::Outcome::Success(dice.json(3)),
    };
    let finished = tool_call::Finished { outcome, millis: dice.roll(100_000) };
    history.commit(stream, [AnyEvent::ToolCall(finished.into())]);
}

fn uploaded(history: &mut History, dice: &mut Dice, n: u128, owner: u128) -> StreamId {
    let stream = StreamId::new(Category::Document, id(4_000_000 + n));
    let mut content = blob(1);
    content.sha256.0[..16].copy_from_slice(&n.to_be_bytes());
    let (filename, metadata) = (format!("{}.txt", dice.text()), dice.object(3));
    let uploaded = document::Uploaded { owner: id(owner), filename, content, metadata, attempt: None };
    history.commit(stream, [AnyEvent::Document(uploaded.into())]);
    stream
}

/// One step of any kind; whether the document is gone after it.
fn step(history: &mut History, dice: &mut Dice, stream: StreamId) -> bool {
    let failure = Failure::passing("busy", dice.text());
    let event: document::Event = match dice.roll(7) {
        0 => document::Chunked { batches: vec![blob(2), blob(3)], chunks: 70 }.into(),
        1 => {
            document::Embedded { batch: 0, vectors: blob(4), model: "small".to_owned(), cached: 0, domain: None }.into()
        }
        2 => document::Failed { step: Step::Chunk, failure }.into(),
        3 => document::RetryRequested {}.into(),
        4 => document::EmbeddingSkipped { reason: dice.text() }.into(),
        5 => document::Indexed {}.into(),
        _ => document::Deleted {}.into(),
    };
    let gone = matches!(event, document::Event::Deleted(_));
    history.commit(stream, [AnyEvent::Document(event)]);
    gone
}
