//! How a command ends: documented exit codes, and errors that say what happened, why, and what to do.

use std::{error::Error as StdError, fmt, process::ExitCode, time::Duration};

use lmao_adapters::data_dir;
use serde_json::json;

/// What the shell is told. Scripts branch on these, so they never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Done.
    Done = 0,
    /// It failed: here, on the disk, in a check, in a server that failed or was too busy; or nobody knows yet whether it will
    /// have been done.
    Failed = 1,
    /// The command line or the configuration makes no sense.
    Usage = 2,
    /// No server answers, or none any more; or there is no data directory that could be opened instead. A server that
    /// answers that it cannot, or not now, is none of this.
    Unreachable = 3,
    /// The server refused: a wrong token or none, no permission, or a request that it does not accept.
    Refused = 4,
    /// Done in part: some of the files or documents failed, or some streams are set aside.
    Partial = 5,
    /// Interrupted by the user (128 + SIGINT).
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A wait that a person at a terminal would rather have than an error.
const SHORT: Duration = Duration::from_secs(10);

/// The text of `lmao --help` on exit codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    failed, or not known to be done: the server was too busy, or the answer takes longer
  2    the command line or the configuration makes no sense
  3    no server answers, or none any more; or there is no data directory to open instead
  4    the server refused: no token or a wrong one, no permission, or the request itself
  5    done in part: some of the files or documents failed, or streams are set aside
  130  interrupted";

/// An error with its exit code and, where there is something to do, a hint. `Display` is what happened; the cause is the
/// source.
#[derive(Debug)]
pub(crate) struct Stop {
    /// The exit code.
    pub code: Code,
    message: String,
    hint: Option<String>,
    source: Option<anyhow::Error>,
    /// What the server's error body says, when a server refused.
    pub api: Option<Api>,
}

/// The stable part of a server's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Api {
    /// The HTTP status.
    pub status: u16,
    /// `details.reason`; empty when there is none.
    pub reason: String,
    /// What became of the request.
    pub effect: Effect,
    /// When the same request may succeed, where the server says so.
    pub wait: Option<Duration>,
}

/// What became of a request that was not answered with a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It was turned away: sent again, it is a new one.
    Nothing,
    /// It may have been carried out.
    Unknown,
    /// It was carried out and failed. That is kept: the same request would get the same answer.
    Recorded,
}

impl Stop {
    /// Ends with this code and message.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, source: None, api: None }
    }

    /// With what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With what lies behind it.
    #[must_use]
    pub(crate) fn because(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// How long to wait until a server that was asked too often takes the same request, unless that is long.
    pub(crate) fn short_wait(&self) -> Option<Duration> {
        let api = self.api.as_ref().filter(|api| api.status == 429 && api.effect == Effect::Nothing)?;
        api.wait.filter(|wait| *wait <= SHORT)
    }

    /// Nothing more to say: everything that matters has been printed.
    #[must_use]
    pub(crate) fn silent(code: Code) -> Self {
        Self::new(code, "")
    }
}

impl From<data_dir::Error> for Stop {
    /// What it says first is what matters, and what to do.
    fn from(error: data_dir::Error) -> Self {
        Self::new(Code::Failed, error.to_string()).because(error)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Stop {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| -> &(dyn StdError + 'static) { source.as_ref() })
    }
}

/// The exit code of an error: that of the outermost [`Stop`] in it.
pub(crate) fn code_of(error: &anyhow::Error) -> Code {
    stops(error).next().map_or(Code::Failed, |stop| stop.code)
}

/// What is printed of an error; `None` when everything has been said.
pub(crate) fn render(error: &anyhow::Error) -> Option<String> {
    let texts = texts(error);
    let (message, causes) = texts.split_first()?;
    let mut lines = vec![format!("error: {message}")];
    lines.extend(causes.iter().map(|cause| format!("  caused by: {cause}")));
    lines.extend(hints(error).map(|hint| format!("  hint: {hint}")));
    Some(lines.join("\n"))
}

/// As [`render`], for a program: `{"error": {…}}` on one line, with what a server said of it.
pub(crate) fn render_json(error: &anyhow::Error) -> Option<String> {
    let texts = texts(error);
    let (message, causes) = texts.split_first()?;
    let mut told = json!({
        "message": message, "exit_code": code_of(error) as u8, "causes": causes, "hints": hints(error).collect::<Vec<_>>(),
    });
    if let Some(api) = stops(error).find_map(|stop| stop.api.as_ref()) {
        told["status"] = api.status.into();
        told["reason"] = api.reason.as_str().into();
        told["retry_after"] = api.wait.map(|wait| wait.as_secs()).into();
    }
    Some(json!({ "error": told }).to_string())
}

/// What happened, then why, and why that.
fn texts(error: &anyhow::Error) -> Vec<String> {
    let mut texts: Vec<String> = vec![];
    for cause in error.chain().map(ToString::to_string).filter(|text| !text.is_empty()) {
        // Some libraries repeat their source in their own text.
        if texts.last().is_none_or(|last| !last.ends_with(&cause)) {
            texts.push(cause);
        }
    }
    texts
}

fn hints(error: &anyhow::Error) -> impl Iterator<Item = &str> {
    stops(error).filter_map(|stop| stop.hint.as_deref())
}

fn stops(error: &anyhow::Error) -> impl Iterator<Item = &Stop> {
    error.chain().filter_map(|cause| cause.downcast_ref::<Stop>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let io = std::io::Error::other("connection refused");
        let stop = Stop::new(Code::Unreachable, "no server answers at 127.0.0.1:8000")
            .because(anyhow::Error::from(io).context("connecting"))
            .hint("start one with `lmao serve`");
        let error = anyhow::Error::from(stop);
        assert_eq!(code_of(&error), Code::Unreachable);
        assert_eq!(
            render(&error).unwrap(),
            "error: no server answers at 127.0.0.1:8000\n  caused by: connecting\n  caused by: connection refused\n  \
             hint: start one with `lmao serve`"
        );
    }

    #[test]
    fn an_unusable_data_directory_is_told_by_what_is_wrong_with_it() {
        let (path, message) = ("d".into(), "this user may not use it");
        let denied = data_dir::Error::Io { path, message, source: std::io::Error::other("permission denied") };
        let denied = anyhow::Error::from(Stop::from(denied));
        let text = "error: d: this user may not use it\n  caused by: permission denied";
        assert_eq!((code_of(&denied), render(&denied).unwrap().as_str()), (Code::Failed, text));
    }

    #[test]
    fn a_plain_error_is_a_failure_and_a_silent_one_says_nothing() {
        assert_eq!(code_of(&anyhow::anyhow!("broken")), Code::Failed);
        let silent = anyhow::Error::from(Stop::silent(Code::Partial));
        assert_eq!((code_of(&silent), render(&silent)), (Code::Partial, None));
        assert_eq!(render_json(&silent), None);
    }

    #[test]
    fn a_program_is_told_the_same_as_a_person() {
        let mut stop = Stop::new(Code::Failed, "too many requests").hint("wait 2 s");
        let (reason, wait) = ("rate_limited".to_owned(), Some(Duration::from_secs(2)));
        stop.api = Some(Api { status: 429, reason, effect: Effect::Nothing, wait });
        let told = render_json(&anyhow::Error::from(stop)).unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let expected = json!({ "error": {
            "message": "too many requests", "exit_code": 1, "causes": [], "hints": ["wait 2 s"],
            "status": 429, "reason": "rate_limited", "retry_after": 2,
        } });
        assert_eq!(told, expected);
    }

    #[test]
    fn a_source_that_is_repeated_is_shown_once() {
        let stop = Stop::new(Code::Failed, "it failed: disk full").because(anyhow::anyhow!("disk full"));
        assert_eq!(render(&stop.into()).unwrap(), "error: it failed: disk full");
    }
}
