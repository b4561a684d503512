//! `lmao ask`: a question, its answer as it is written, and the numbered sources.

use std::{io::Write as _, time::Duration};

use serde_json::{Value, json};

use super::{
    Invocation,
    session::{Need, with_client},
};
use crate::{
    cli::Ask,
    client::{Chat, ChatEvent, Citation, Client, Replied, name_files, read},
    exit::{Code, Stop},
    output::{Ink, Output, note, plain, shorten},
};

/// Characters of a quote that are shown.
const SHOWN: usize = 240;

/// Asks and prints.
///
/// # Errors
/// Those of the server and of reaching it.
pub(crate) async fn run(invocation: &Invocation, ask: Ask) -> anyhow::Result<()> {
    with_client(invocation, Need::Searchable, async |client| {
        // This build's WebSocket has no TLS.
        if client.base().starts_with("http://") {
            converse(invocation.out, client, &ask).await
        } else {
            ask_at_once(invocation.out, client, &ask).await
        }
    })
    .await
}

/// The answer in one piece.
async fn ask_at_once(out: Output, client: &Client, ask: &Ask) -> anyhow::Result<()> {
    let body = json!({ "message": ask.question.join(" "), "session_id": ask.session });
    let Replied { session_id, response, mut metadata } = client.post("/api/v1/chat/message", &body).await?;
    if metadata.get("status").is_some_and(|status| status == "processing") {
        let text = format!("the answer takes longer; it will be a message of session {session_id}");
        return Err(Stop::new(Code::Failed, text).into());
    }
    metadata.insert("session_id".to_owned(), session_id.to_string().into());
    Shown { out, client, text: String::new() }.answer(&response, metadata.into()).await
}

async fn converse(out: Output, client: &Client, ask: &Ask) -> anyhow::Result<()> {
    let mut chat = match Chat::open(client, ask.session).await {
        Err(stop) if let Some(wait) = stop.short_wait() => {
            pause(wait).await;
            Chat::open(client, ask.session).await?
        }
        opened => opened?,
    };
    let question = ask.question.join(" ");
    chat.ask(&question).await?;
    let mut waited = false;
    let mut shown = Shown { out, client, text: String::new() };
    loop {
        let event = match chat.next().await {
            // Nothing was done, and the conversation stays open.
            Err(stop) if let Some(wait) = stop.short_wait().filter(|_| !waited) => {
                pause(wait).await;
                waited = true;
                chat.ask(&question).await?;
                continue;
            }
            event => event?,
        };
        match event {
            ChatEvent::Status(text) => shown.status(&text),
            ChatEvent::Piece { text, begins_anew } => shown.piece(&text, begins_anew)?,
            ChatEvent::Answer { text, metadata } => return shown.answer(&text, metadata).await,
        }
    }
}

/// Waits until the server takes questions again.
async fn pause(wait: Duration) {
    note(format_args!("note: too many requests; going on in {} s", wait.as_secs()));
    tokio::time::sleep(wait).await;
}

/// The answer as far as it has been printed.
struct Shown<'a> {
    out: Output,
    client: &'a Client,
    text: String,
}

impl Shown<'_> {
    fn status(&self, text: &str) {
        if self.text.is_empty() && self.out.shows_progress() && !self.out.is_json() {
            let _ = write!(std::io::stderr(), "\r\x1b[K{}…\r", shorten(text, 70));
        }
    }

    fn piece(&mut self, text: &str, begins_anew: bool) -> Result<(), Stop> {
        if self.out.is_json() {
            return Ok(());
        }
        if self.text.is_empty() {
            self.clear_status();
        } else if begins_anew {
            self.out.line("\n(the attempt was broken off; here is the next)")?;
            self.text.clear();
        }
        self.text.push_str(text);
        self.out.piece(&plain(text))
    }

    async fn answer(&self, text: &str, mut metadata: Value) -> anyhow::Result<()> {
        let citations = metadata.get_mut("citations").and_then(Value::as_array_mut).into_iter().flatten();
        name_files(self.client, citations.collect()).await;
        let citations: Option<Vec<Citation>> = read(&metadata["citations"])?;
        if self.out.is_json() {
            let session = &metadata["session_id"];
            return Ok(self.out.json(&json!({ "response": text, "session_id": session, "metadata": metadata }))?);
        }
        // Pieces are hints and may be lost: what counts is the whole.
        if self.text.is_empty() {
            self.clear_status();
            self.out.line(plain(text))?;
        } else if self.text == text {
            self.out.line("")?;
        } else {
            self.out.line(format!("\n\n{}", plain(text)))?;
        }
        self.sources(&citations.unwrap_or_default(), &metadata)
    }

    fn sources(&self, citations: &[Citation], metadata: &Value) -> anyhow::Result<()> {
        let notices = metadata["notices"].as_array().into_iter().flatten().filter_map(Value::as_str);
        notices.for_each(|notice| note(format_args!("note: {}", plain(notice))));
        if !citations.is_empty() {
            self.out.line(format!("\n{}", self.out.paint(Ink::Bold, "Sources")))?;
        }
        for Citation { n, place, quote } in citations {
            let at = place.within();
            let comma = if at.is_empty() { "" } else { ", " };
            self.out.line(format!("[{n}] {}{comma}{}", plain(place.file()), plain(&at)))?;
            self.out.line(self.out.paint(Ink::Dim, &format!("    “{}”", shorten(quote, SHOWN))))?;
        }
        if let Some(session) = metadata["session_id"].as_str() {
            let text = format!("\nsession {}  (go on with --session {0})", plain(session));
            self.out.line(self.out.paint(Ink::Dim, &text))?;
        }
        Ok(())
    }

    fn clear_status(&self) {
        if self.out.shows_progress() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
