//! `lmao documents trace`: why a document is, or is not, searchable, as a timeline.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    client::{Client, read},
    output::{Ink, Output, bytes, plain, shorten},
};

/// Characters of a note that are shown.
const SHOWN: usize = 200;

#[derive(Debug, Deserialize)]
struct Trace {
    filename: String,
    searchable: String,
    why: String,
    steps: Vec<Step>,
    #[serde(default)]
    omitted_steps: u64,
    index: Index,
    #[serde(default)]
    parked: Vec<SetAside>,
    #[serde(default)]
    problems: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Step {
    step: String,
    state: String,
    began_at: String,
    ended_at: Option<String>,
    duration: Option<f64>,
    attempts: u64,
    counts: BTreeMap<String, u64>,
    models: BTreeMap<String, String>,
    notes: Vec<String>,
    errors: Vec<Failure>,
    retry_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    at: String,
    reason: String,
    message: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    holds: Option<bool>,
    passages_looked_at: u64,
    with_vectors: BTreeMap<String, u64>,
    models: BTreeMap<String, String>,
    position: Option<u64>,
    published_at: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct SetAside {
    by: String,
    reason: String,
}

/// Asks for a document's trace and prints it.
///
/// # Errors
/// Those of the server and of reaching it.
pub(super) async fn run(out: Output, client: &Client, id: Uuid) -> anyhow::Result<()> {
    let answer: Value = client.get(&format!("/api/v1/documents/{id}/trace"), &[]).await?;
    if out.is_json() {
        return Ok(out.json(&answer)?);
    }
    let trace: Trace = read(&answer)?;
    let ink = match trace.searchable.as_str() {
        "yes" => Ink::Green,
        "no" => Ink::Red,
        _ => Ink::Yellow,
    };
    out.line(out.paint(Ink::Bold, &plain(&trace.filename)))?;
    out.line(out.paint(ink, &plain(&trace.why)))?;
    for line in trace.lines() {
        out.line(line)?;
    }
    Ok(())
}

impl Trace {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![String::new()];
        if self.omitted_steps > 0 {
            lines.push(format!("  {} earlier steps are not shown", self.omitted_steps));
        }
        self.steps.iter().for_each(|step| step.say(&mut lines));
        lines.push(String::new());
        lines.push(format!("index: {}", self.index.words()));
        lines.extend(self.parked.iter().map(|aside| format!("set aside by {}: {}", aside.by, plain(&aside.reason))));
        lines.extend(self.problems.iter().map(|problem| format!("not known: {}", plain(problem))));
        lines
    }
}

impl Step {
    /// A line for the step, one for each thing to know about it.
    fn say(&self, lines: &mut Vec<String>) {
        let at = clock(self.ended_at.as_deref().unwrap_or(&self.began_at));
        let took = self
            .duration
            .filter(|seconds| *seconds > 0.0)
            .map_or_else(String::new, |seconds| format!("{seconds:.2} s"));
        let state = match self.state.as_str() {
            "done" => String::new(),
            state => format!("{}  ", state.replace('_', " ")),
        };
        let tries = if self.attempts > 1 { format!("  {} attempts", self.attempts) } else { String::new() };
        let name = self.step.replace('_', " ");
        let line = format!("  {at}  {name:<18}{took:>9}  {state}{}{tries}", self.counted());
        lines.push(line.trim_end().to_owned());
        let models = self.models.iter().map(|(space, model)| format!("{space} model: {}", plain(model)));
        let notes = self.notes.iter().map(|note| shorten(note, SHOWN));
        let errors = self.errors.iter().map(|error| {
            format!("! {}  {}: {}", clock(&error.at), plain(&error.reason), shorten(&error.message, SHOWN))
        });
        let retry = self.retry_at.iter().map(|at| format!("tried again at {}", clock(at)));
        lines.extend(models.chain(notes).chain(errors).chain(retry).map(|line| format!("{:25}{line}", "")));
    }

    fn counted(&self) -> String {
        let count = |(name, count): (&String, &u64)| match name.as_str() {
            "bytes" => bytes(*count),
            "batches_done" | "warnings" if *count == 0 => String::new(),
            name => format!("{count} {}", name.replace('_', " ")),
        };
        let counts: Vec<String> = self.counts.iter().map(count).filter(|text| !text.is_empty()).collect();
        counts.join(", ")
    }
}

impl Index {
    fn words(&self) -> String {
        let up_to = |position: Option<u64>| position.map_or_else(|| "?".to_owned(), |position| position.to_string());
        match self.holds {
            None => "it does not answer".to_owned(),
            Some(false) => format!(
                "it does not have it; it has taken in the log up to {}, the document was published at {}",
                up_to(self.position),
                self.published_at.map_or_else(|| "no position yet".to_owned(), |position| position.to_string()),
            ),
            Some(true) => {
                let looked = self.passages_looked_at;
                let spaces = self.with_vectors.iter().map(|(space, with)| {
                    let model = self.models.get(space).map_or("", String::as_str);
                    format!("{with} of {looked} passages with {space} vectors ({})", plain(model))
                });
                let spaces: Vec<String> = spaces.collect();
                if spaces.is_empty() {
                    "it has it, without vectors".to_owned()
                } else {
                    format!("it has it, {}", spaces.join(", "))
                }
            }
        }
    }
}

/// Day and time to the hundredth, UTC, of a time as in RFC 3339.
fn clock(time: &str) -> String {
    let (day, clock) = time.split_once('T').unwrap_or((time, ""));
    let clock = clock.trim_end_matches('Z');
    plain(&format!("{day} {}", clock.get(..11).unwrap_or(clock))).trim_end().to_owned()
}
