//! Where a command works: most ask any server, some need the stores themselves, some have to do with no server at all.

use super::{
    Invocation,
    session::{Target, target},
};
use crate::{
    cli::{Command, Models, Projections},
    exit::{Code, Stop},
};

/// Where a command can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// To whichever server is named.
    Anywhere,
    /// To the stores that the configuration names, and no server hands out.
    Stores,
    /// Nowhere: it is about this machine, and this configuration.
    Here,
}

impl Place {
    fn of(command: &Command) -> Self {
        match command {
            Command::Audit(_)
            | Command::Log(_)
            | Command::Projections(Projections::Rebuild { .. })
            | Command::Models(Models::Reembed) => Self::Stores,
            Command::Serve(_)
            | Command::Migrate(_)
            | Command::Config
            | Command::Doctor(_)
            | Command::Completions { .. } => Self::Here,
            Command::Ingest(_)
            | Command::Search(_)
            | Command::Eval(_)
            | Command::Ask(_)
            | Command::Sessions(_)
            | Command::Events(_)
            | Command::Projections(Projections::Status | Projections::Digest)
            | Command::Status
            | Command::Health
            | Command::Parked(_)
            | Command::User(_)
            | Command::Login(_)
            | Command::Documents(_)
            | Command::Models(Models::Status) => Self::Anywhere,
        }
    }
}

/// Refuses a command for a server that is not what it works on: done to something else, it would be done by mistake.
///
/// # Errors
/// [`Code::Usage`].
pub(super) fn refuse_elsewhere(command: &Command, invocation: &Invocation) -> Result<(), Stop> {
    // LMAO_SERVER is a habit of the shell; only what it would be taken for has to mind it.
    let named = match (Place::of(command), target(invocation)) {
        (Place::Stores, Target::Server(base)) => Some(base),
        (Place::Here, Target::Server(base)) if invocation.global.server.is_some() => Some(base),
        _ => None,
    };
    let Some(base) = named else { return Ok(()) };
    Err(match Place::of(command) {
        Place::Stores => {
            Stop::new(Code::Usage, format!("this works on the stores themselves, which {base} does not hand out"))
                .hint("run it where the data directory is, and name that with --data DIR")
        }
        Place::Here | Place::Anywhere => {
            Stop::new(Code::Usage, format!("this is about the machine that it runs on, not about {base}"))
                .hint("leave --server out")
        }
    })
}
