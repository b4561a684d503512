//! `lmao audit`: proof that the log is what was written.

use lmao_actors::audit::{self, Report, Rolling};
use serde_json::json;

use super::Invocation;
use crate::{
    compose::Reader,
    exit::{Code, Stop},
    output::{Ink, Output},
    progress,
};

/// Reads the whole log, beside the server that writes it or without one.
///
/// # Errors
/// [`Code::Failed`] when the log is not what was written, or cannot be read.
pub(crate) async fn verify(invocation: &Invocation) -> anyhow::Result<()> {
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
    let is_whole = report.problems.is_empty();
    let printed = if out.is_json() {
        out.json(&json!({ "ok": is_whole, "log": reader.log.id(), "report": report }))
    } else {
        show(out, &report)
    };
    let judged = if is_whole { Ok(()) } else { Err(Stop::silent(Code::Failed)) };
    Ok(judged.and(printed)?)
}

fn show(out: Output, report: &Report) -> Result<(), Stop> {
    let counts = format!("{} records of {} streams, up to position {}", report.records, report.streams, report.tail);
    if !report.problems.is_empty() {
        out.line(format!("{}: {counts}", out.paint(Ink::Red, "altered")))?;
        return report.problems.iter().try_for_each(|problem| out.line(format!("  {problem}")));
    }
    let whole = match report.checkpoint {
        Some(position) => {
            format!("every chain is whole, and the log agrees with its checkpoint at position {position}")
        }
        None => "every chain is whole; no checkpoint has been kept yet".to_owned(),
    };
    out.line(format!("{}: {counts}; {whole}", out.paint(Ink::Green, "ok")))
}
