//! The command line, as data. What each command does is in `commands`.

mod parse;
mod retrieval;

use std::{net::SocketAddr, path::PathBuf};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use lmao_events::StreamId;
use lmao_ports::Filter;
use uuid::Uuid;

pub(crate) use self::{
    parse::pages,
    retrieval::{Eval, Ingest, Search, SearchKey, SearchType},
};
use crate::{config::parse_address, exit};

/// How to begin, above everything else in `lmao --help`.
const BEGIN: &str = "\
To begin:
  lmao serve                  run the server; then, in another terminal:
  lmao ingest DIR             add files and folders
  lmao ask \"a question\"       get an answer with its sources";

/// Agentic retrieval-augmented chat over your documents, on an event-sourced core.
#[derive(Debug, Parser)]
#[command(name = "lmao", version, propagate_version = true)]
#[command(arg_required_else_help = true, before_help = BEGIN, after_help = exit::HELP)]
pub(crate) struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The data directory [default: ./lmao-data]. Wins over LMAO_SERVER: with it, commands go to the server that runs on
    /// this directory, or open it themselves.
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "server")]
    pub data: Option<PathBuf>,
    /// The server to ask, for example http://127.0.0.1:8000 [env: LMAO_SERVER]. Its token comes from LMAO_TOKEN.
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// The configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE", env = "LMAO_CONFIG")]
    pub config: Option<PathBuf>,
    /// Sets a configuration key, for example --set models=off; wins over environment and file. May be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = parse::pair)]
    pub set: Vec<(String, String)>,
    /// Print JSON; an error as well, on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// How log messages are written to standard error.
    #[arg(long, global = true, value_name = "FORMAT", env = "LMAO_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Which log messages are written, for example debug or info,lmao_actors=debug.
    #[arg(long, global = true, value_name = "FILTER", env = "LMAO_LOG_FILTER")]
    pub log_filter: Option<String>,
}

/// How log messages are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the server.
    Serve(Serve),
    /// Adds files and folders; what was added before is recognised, so it can be run again after an interruption.
    Ingest(Ingest),
    /// Finds passages.
    Search(Search),
    /// Measures retrieval on a collection with judgements.
    Eval(Eval),
    /// Asks a question; prints the answer as it is written, then its sources.
    Ask(Ask),
    /// Prints what happened, from the event log.
    Events(Events),
    /// Checks the event log.
    #[command(subcommand)]
    Audit(Audit),
    /// The event log as a whole, to be moved into other stores.
    #[command(subcommand)]
    Log(Log),
    /// The tables and indexes that are computed from the log.
    #[command(subcommand)]
    Projections(Projections),
    /// Who lives, who works for what, and how far everything is.
    Status,
    /// Whether a server works; the exit code says so. Needs no token.
    Health,
    /// Makes the streams, tables and indexes that NATS, Postgres and Elasticsearch have to hold, or brings them up to date. Needed
    /// once before the first node starts, and after an upgrade; repeating it does nothing.
    Migrate(Migrate),
    /// Streams that keep failing and were set aside.
    Parked(Parked),
    /// Prints the effective configuration and where each value comes from; secrets are masked.
    Config,
    /// Checks what is needed and says how to get what is missing.
    Doctor(Doctor),
    /// Accounts.
    #[command(subcommand)]
    User(User),
    /// Logs in to a server and prints a token for LMAO_TOKEN. The password is asked for on a terminal, else it is the first
    /// line of standard input.
    Login(Login),
    /// Documents.
    #[command(subcommand)]
    Documents(Documents),
    /// Lists the conversations, the newest first.
    Sessions(Sessions),
    /// The embedding models and the reranker.
    #[command(subcommand)]
    Models(Models),
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// `lmao serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address to listen on [default: 127.0.0.1:8000].
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub listen: Option<SocketAddr>,
    /// What this node does: all, or some of gateway,worker,projector [default: all].
    #[arg(long, value_name = "ROLES")]
    pub roles: Option<String>,
}

/// `lmao log`.
#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Writes the log and the files that it names into one archive, beside a running server or without one.
    Export {
        /// The archive to write. Must not exist.
        file: PathBuf,
        /// With the keys and passwords, in the clear: whoever has the archive can read everything. Without them it can only be
        /// imported where the vault has them.
        #[arg(long)]
        with_keys: bool,
    },
    /// Takes an archive into an empty system. After an interruption the same archive goes on where it was.
    Import {
        /// The archive.
        file: PathBuf,
    },
}

/// `lmao migrate`.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// On how many NATS servers everything is stored: 1, or 3 of a cluster.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse::replicas)]
    pub replicas: u8,
}

/// `lmao doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The address that the server is to listen on [default: that of the configuration].
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub listen: Option<SocketAddr>,
}

/// `lmao ask`.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The question.
    #[arg(required = true, value_name = "QUESTION", value_parser = parse::words)]
    pub question: Vec<String>,
    /// The session to go on with; a new one by default.
    #[arg(long, value_name = "ID", value_parser = parse::id)]
    pub session: Option<Uuid>,
}

/// `lmao events`.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Only this stream, for example document/0190a9c2-…, or all streams of a category: session, workflow, tool-call,
    /// document, user or claim.
    #[arg(long, value_name = "STREAM", value_parser = parse::filter)]
    pub stream: Option<Filter>,
    /// Only what follows this position.
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    pub after: u64,
    /// How many records at most; all by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Wait for what comes, until interrupted.
    #[arg(long)]
    pub follow: bool,
}

/// `lmao audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Reads the whole log again: every record, every stream's chain of hashes.
    Verify,
}

/// `lmao projections`.
#[derive(Debug, Subcommand)]
pub(crate) enum Projections {
    /// How far each has read the log, and what it had to set aside.
    Status,
    /// Forgets one or all of them and replays the log. The server must be stopped.
    Rebuild {
        /// Which; all by default.
        #[arg(value_name = "NAME")]
        name: Option<ProjectionName>,
    },
    /// Catches up, then prints a digest of each one's content.
    Digest,
}

/// `lmao parked`: lists them unless told otherwise.
#[derive(Debug, Args)]
pub(crate) struct Parked {
    /// What to do.
    #[command(subcommand)]
    pub action: Option<ParkedAction>,
}

/// What to do with what was set aside.
#[derive(Debug, Subcommand)]
pub(crate) enum ParkedAction {
    /// Tries a stream again, once what kept it from going on is out of the way.
    Retry {
        /// Which, as listed, for example document/0190a9c2-….
        #[arg(value_name = "STREAM", value_parser = parse::stream)]
        stream: StreamId,
    },
}

/// A projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProjectionName {
    /// The tables.
    #[value(name = "read_model")]
    ReadModel,
    /// The search index.
    #[value(name = "search")]
    Search,
}

/// `lmao user`.
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Opens an account; a password is made and printed once unless `--password-stdin` is given.
    Add {
        /// The name to log in with.
        #[arg(value_name = "NAME")]
        name: String,
        /// The e-mail address.
        #[arg(long, value_name = "ADDRESS")]
        email: String,
        /// What the account may do.
        #[arg(long, value_name = "ROLE", default_value = "user")]
        role: Role,
        /// Read the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
}

/// `lmao login`.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The name to log in with.
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub username: String,
}

/// `lmao sessions`.
#[derive(Debug, Args)]
pub(crate) struct Sessions {
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub max: u32,
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Its own sessions and documents.
    User,
    /// Also accounts and the log.
    Admin,
}

impl Role {
    /// The name on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

/// `lmao documents`.
#[derive(Debug, Subcommand)]
pub(crate) enum Documents {
    /// Lists documents, the newest first.
    List {
        /// Only those of this status.
        #[arg(long, value_name = "STATUS")]
        status: Option<Status>,
        /// How many at most; all by default.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        max: Option<u32>,
    },
    /// Says why a document is, or is not, searchable: each step that it went through, and what the index has of it.
    Trace {
        /// Its id.
        #[arg(value_name = "ID", value_parser = parse::id)]
        id: Uuid,
    },
    /// Deletes documents, with everything that was made of them.
    #[command(group = ArgGroup::new("which").required(true))]
    Delete {
        /// Their ids.
        #[arg(value_name = "ID", group = "which", value_parser = parse::id)]
        ids: Vec<Uuid>,
    },
    /// Tries failed documents again.
    #[command(group = ArgGroup::new("which").required(true))]
    Retry {
        /// Their ids.
        #[arg(value_name = "ID", group = "which", value_parser = parse::id)]
        ids: Vec<Uuid>,
        /// All that failed.
        #[arg(long, group = "which", conflicts_with = "ids")]
        failed: bool,
    },
}

/// Where a document stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Status {
    /// Waiting.
    Queued,
    /// Its text is being read.
    Extracting,
    /// Its text is being cut into passages.
    Chunking,
    /// Its passages are being embedded.
    Embedding,
    /// Its passages are being indexed.
    Indexing,
    /// It can be found.
    Ready,
    /// It cannot.
    Failed,
}

impl Status {
    /// The name on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Extracting => "extracting",
            Self::Chunking => "chunking",
            Self::Embedding => "embedding",
            Self::Indexing => "indexing",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

/// `lmao models`.
#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    /// Which models are in use, and whether the index fits them.
    Status,
    /// Embeds again every document whose vectors are of other models than those in use. The server must be stopped.
    Reembed,
}

#[cfg(test)]
mod tests;
