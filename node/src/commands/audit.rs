//! `lmao audit`: proof that the log is what was written.

use lmao_actors::audit::{self, Rolling};
use serde_json::json;

use super::{
    Invocation,
    session::{Target, target},
};
use crate::{
    compose::Reader,
    exit::{Code, Stop},
    output::Ink,
    progress,
};

/// Reads the whole log, beside the server that writes it or without one.
///
/// # Errors
/// [`Code::Failed`] when the log is not what was written, or cannot be read.
pub(crate) async fn verify(invocation: &Invocation) -> anyhow::Result<()> {
    if let Target::Server(base) = target(invocation) {
        let text = format!("an audit reads the log's own bytes, which {base} does not hand out");
        return Err(Stop::new(Code::Usage, text)
            .hint("run it where the data directory is: lmao audit verify --data DIR")
            .into());
    }
    let reader = Reader::open(&invocation.configuration(None)?.config).await?;
    // Before the log: what is appended meanwhile is behind every checkpoint that was read.
    let checkpoint = Rolling::kept(reader.vault.as_ref(), reader.log.id()).await?;
    let bar = progress::bar(None, "{bar:30} position {pos} of {len}, {eta} left");
    let report = audit::verify(reader.log.as_ref(), checkpoint, |position, tail| {
        bar.set_length(tail.0);
        bar.set_position(position.0);
    })
    .await?;
    bar.finish_and_clear();
    let out = invocation.out;
    if out.is_json() {
        out.json(&json!({ "ok": report.problems.is_empty(), "log": reader.log.id(), "report": report }))?;
    } else {
        let counts =
            format!("{} records of {} streams, up to position {}", report.records, report.streams, report.tail);
        match (report.problems.is_empty(), report.checkpoint) {
            (true, Some(position)) => {
                let whole =
                    format!("every chain is whole, and the log agrees with its checkpoint at position {position}");
                out.line(format!("{}: {counts}; {whole}", out.paint(Ink::Green, "ok")))?;
            }
            (true, None) => {
                let whole = "every chain is whole; no checkpoint has been kept yet";
                out.line(format!("{}: {counts}; {whole}", out.paint(Ink::Green, "ok")))?;
            }
            (false, _) => out.line(format!("{}: {counts}", out.paint(Ink::Red, "altered")))?,
        }
        report.problems.iter().try_for_each(|problem| out.line(format!("  {problem}")))?;
    }
    if report.problems.is_empty() { Ok(()) } else { Err(Stop::silent(Code::Failed).into()) }
}
