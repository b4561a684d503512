//! The commands, one module each. Those that ask a server do so through `client`, whoever runs it.

mod ask;
mod audit;
mod config;
mod doctor;
mod documents;
mod eval;
mod events;
mod ingest;
mod log;
mod login;
mod migrate;
mod models;
mod occupied;
mod parked;
mod place;
mod projections;
mod search;
mod serve;
mod session;
mod sessions;
mod status;
mod trace;
mod user;

use clap::CommandFactory as _;

use crate::{
    cli::{Audit, Cli, Command, Global},
    config::{Loaded, Overrides, load},
    exit::Stop,
    output::{Format, Output},
};

/// What a command is given: the options of every command, the environment, standard output.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    /// The options.
    pub global: Global,
    /// Where results go.
    pub out: Output,
    environment: Vec<(String, String)>,
}

impl Invocation {
    /// With our variables of the environment.
    pub(crate) fn new(global: Global, environment: Vec<(String, String)>) -> Self {
        let format = if global.json { Format::Json } else { Format::Text };
        Self { global, out: Output::new(format), environment }
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// The configuration; `listen` is that of `serve` and `doctor`.
    ///
    /// # Errors
    /// [`crate::exit::Code::Usage`].
    pub(crate) fn configuration(&self, listen: Option<String>) -> Result<Loaded, Stop> {
        self.configuration_with(listen.map(|listen| ("--listen", "listen".to_owned(), listen)))
    }

    /// The configuration with what the options of one command set.
    ///
    /// # Errors
    /// [`crate::exit::Code::Usage`].
    pub(crate) fn configuration_with(
        &self,
        options: impl IntoIterator<Item = (&'static str, String, String)>,
    ) -> Result<Loaded, Stop> {
        let set = self.global.set.iter().map(|(key, value)| ("--set", key.clone(), value.clone()));
        let data = self.global.data.as_ref().map(|data| ("--data", "data".to_owned(), data.display().to_string()));
        let overrides = Overrides { file: self.global.config.clone(), flags: set.chain(data).chain(options).collect() };
        load(&overrides, self.environment.iter().cloned())
    }
}

/// Runs a command.
///
/// # Errors
/// Anything; [`crate::exit::code_of`] tells the exit code.
pub(crate) async fn run(command: Command, invocation: Invocation) -> anyhow::Result<()> {
    place::refuse_elsewhere(&command, &invocation)?;
    match command {
        Command::Ingest(ingest) => ingest::run(&invocation, ingest).await,
        Command::Search(search) => search::run(&invocation, search).await,
        Command::Eval(eval) => eval::run(&invocation, eval).await,
        Command::Ask(ask) => ask::run(&invocation, ask).await,
        Command::Config => Ok(config::run(&invocation)?),
        Command::User(user) => user::run(&invocation, user).await,
        Command::Login(login) => login::run(&invocation, login).await,
        Command::Documents(documents) => documents::run(&invocation, documents).await,
        Command::Sessions(sessions) => sessions::run(&invocation, sessions).await,
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "lmao", &mut script);
            Ok(invocation.out.piece(&String::from_utf8_lossy(&script))?)
        }
        Command::Serve(serve) => serve::run(&invocation, serve).await,
        Command::Events(events) => events::run(&invocation, events).await,
        Command::Audit(Audit::Verify) => audit::verify(&invocation).await,
        Command::Log(log) => log::run(&invocation, log).await,
        Command::Projections(projections) => projections::run(&invocation, projections).await,
        Command::Status => status::run(&invocation).await,
        Command::Health => status::health(&invocation).await,
        Command::Migrate(migrate) => migrate::run(&invocation, migrate).await,
        Command::Parked(parked) => parked::run(&invocation, parked).await,
        Command::Doctor(doctor) => doctor::run(&invocation, doctor).await,
        Command::Models(models) => models::run(&invocation, models).await,
    }
}
