//! The real servers that tests run against: obtained, started on free ports, asked for their version, stopped.
//!
//! A server is the one that a URL in the environment names, or a container where an engine runs, or a process of this
//! machine's packages. Whatever is started lives in one scratch directory and ends with the command that started it,
//! however that ends ([`scratch`]).

mod docker;
mod elasticsearch;
mod nats;
mod packages;
mod postgres;
mod probe;
mod redis;
mod s3;
mod scratch;
mod standing;

use std::{
    env, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use scratch::{Process, Scratch};

pub(crate) use standing::{down, up};

/// The packages whose tests need servers.
const IN_NEED: [&str; 3] = ["lmao-adapters", "lmao-tests", "lmao"];
/// How often a starting server is asked whether it is ready.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether the tests of these packages need servers; no packages are all.
pub(crate) fn needed(packages: &[String]) -> bool {
    packages.is_empty() || packages.iter().any(|package| IN_NEED.contains(&package.as_str()))
}

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nats,
    Postgres,
    Elasticsearch,
    Redis,
    S3,
}

impl Kind {
    /// All that tests need.
    pub(crate) const ALL: [Self; 5] = [Self::Nats, Self::Postgres, Self::Elasticsearch, Self::Redis, Self::S3];

    fn name(self) -> &'static str {
        match self {
            Self::Nats => "NATS",
            Self::Postgres => "PostgreSQL",
            Self::Elasticsearch => "Elasticsearch",
            Self::Redis => "Redis",
            Self::S3 => "S3 (moto)",
        }
    }

    /// The variable that tells tests where it is.
    fn variable(self) -> &'static str {
        match self {
            Self::Nats => "LMAO_TEST_NATS",
            Self::Postgres => "LMAO_TEST_POSTGRES",
            Self::Elasticsearch => "LMAO_TEST_ELASTICSEARCH",
            Self::Redis => "LMAO_TEST_REDIS",
            Self::S3 => "LMAO_TEST_S3",
        }
    }

    /// The variable that tells tests which program they may start, stop and kill copies of.
    fn program_variable(self) -> Option<&'static str> {
        match self {
            Self::Nats => Some("LMAO_TEST_NATS_SERVER"),
            Self::Redis => Some("LMAO_TEST_REDIS_SERVER"),
            Self::Postgres => Some("LMAO_TEST_POSTGRES_PROGRAMS"),
            Self::Elasticsearch => Some("LMAO_TEST_ELASTICSEARCH_HOME"),
            Self::S3 => None,
        }
    }

    fn given(self) -> Option<String> {
        env::var(self.variable()).ok().filter(|url| !url.is_empty())
    }

    fn given_program(self) -> Option<String> {
        env::var(self.program_variable()?).ok().filter(|path| !path.is_empty())
    }
}

/// Where a server comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A URL in the environment.
    Given,
    /// A container.
    Container,
    /// A process of this machine's packages.
    Process,
}

impl Origin {
    /// NATS and Redis are never containers: tests start and kill copies of their own, so the program is needed anyway.
    fn of(kind: Kind, engine: docker::Engine) -> Self {
        match (kind, engine) {
            _ if kind.given().is_some() => Self::Given,
            (Kind::Postgres | Kind::Elasticsearch, docker::Engine::Running) => Self::Container,
            _ => Self::Process,
        }
    }
}

/// A server that answers.
#[derive(Debug)]
struct Running {
    kind: Kind,
    url: String,
    /// The program, where tests start copies of it.
    program: Option<String>,
    version: String,
    origin: Origin,
}

/// Servers. Dropping them stops what was started.
#[derive(Debug)]
pub(crate) struct Servers {
    running: Vec<Running>,
    scratch: Scratch,
}

impl Servers {
    /// Obtains and starts those of these kinds, at the same time, and waits until they answer.
    ///
    /// # Errors
    /// One cannot be obtained or does not get ready; those that were started are stopped.
    pub(crate) fn start(kinds: &[Kind]) -> Result<Self> {
        let engine = docker::engine();
        let wanted: Vec<_> = kinds.iter().map(|kind| (*kind, Origin::of(*kind, engine))).collect();
        packages::install(&wanted)?;
        let scratch = Scratch::new()?;
        let outcomes: Vec<Result<Running>> = thread::scope(|scope| {
            let spawn = |(kind, origin): (Kind, Origin)| {
                let scratch = &scratch;
                // Said at once: the others may take long.
                let said = move |error: &anyhow::Error| eprintln!("> {} is missing: {error:#}", kind.name());
                (kind, scope.spawn(move || start(kind, origin, scratch).inspect_err(said)))
            };
            let end = |(kind, starting): (Kind, thread::ScopedJoinHandle<'_, _>)| {
                let panicked = |_| Err(anyhow!("the thread that starts it panicked"));
                starting.join().unwrap_or_else(panicked).context(kind.name())
            };
            let starting: Vec<_> = wanted.into_iter().map(spawn).collect();
            starting.into_iter().map(end).collect()
        });
        let running = outcomes.into_iter().collect::<Result<_>>()?;
        Ok(Self { running, scratch })
    }

    /// What tests find them by.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let of = |server: &Running| {
            let program = server.kind.program_variable().zip(server.program.clone());
            [Some((server.kind.variable(), server.url.clone())), program]
        };
        self.running.iter().flat_map(of).flatten().collect()
    }

    /// One line for each: which server, at which version, from where.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |Running { kind, url, version, origin, .. }: &Running| {
            let origin = match origin {
                Origin::Given => kind.variable(),
                Origin::Container => "container",
                Origin::Process => "process",
            };
            format!("{:<14} {version:<10} {} ({origin})", kind.name(), probe::without_password(url))
        };
        self.running.iter().map(line).collect()
    }
}

fn start(kind: Kind, origin: Origin, scratch: &Scratch) -> Result<Running> {
    let begun = Instant::now();
    let program = match (kind, kind.given_program()) {
        (_, Some(program)) => Some(program),
        (Kind::Nats, None) => Some(nats::program()?),
        (Kind::Redis, None) => Some(redis::program()?),
        (Kind::Postgres, None) => postgres::programs().map(|folder| folder.display().to_string()),
        _ => None,
    };
    let url = match (origin, kind, &program) {
        (Origin::Given, ..) => kind.given().context("its variable was unset meanwhile")?,
        (Origin::Container, Kind::Postgres, _) => docker::postgres(scratch)?,
        (Origin::Container, ..) => docker::elasticsearch(scratch)?,
        (Origin::Process, Kind::Nats, Some(program)) => nats::start(program, scratch)?,
        (Origin::Process, Kind::Redis, Some(program)) => redis::start(program, scratch)?,
        (Origin::Process, Kind::Postgres, _) => postgres::start(scratch)?,
        (Origin::Process, Kind::Elasticsearch, _) => elasticsearch::start(scratch)?,
        (Origin::Process, Kind::S3, _) => s3::start(scratch)?,
        (Origin::Process, ..) => bail!("there is no program to start"),
    };
    let version = probe::version(kind, &url)
        .with_context(|| format!("nothing that is {} answers at {}", kind.name(), probe::without_password(&url)))?;
    // Unpacked by its start.
    let program = program.or_else(|| elasticsearch::unpacked().filter(|_| kind == Kind::Elasticsearch));
    eprintln!("> {} {version} answers after {} s", kind.name(), begun.elapsed().as_secs());
    Ok(Running { kind, url, program, version, origin })
}

/// Waits until the server at `url` says its version.
///
/// # Errors
/// It ended or did not answer within `limit`; with the end of its log.
fn ready(process: &Process<'_>, kind: Kind, url: &str, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let Err(error) = probe::version(kind, url) else { return Ok(()) };
        let failed = match process.ended()? {
            Some(status) => Some(format!("it ended ({status})")),
            None => (Instant::now() > deadline).then(|| format!("it was not ready within {} s", limit.as_secs())),
        };
        if let Some(failed) = failed {
            return Err(error.context(format!("{failed}; its log ends with\n{}", process.log_tail())));
        }
        pause();
    }
}

/// Before a starting server is asked again.
#[expect(clippy::disallowed_methods, reason = "there is no async runtime here whose threads it could block")]
fn pause() {
    thread::sleep(PAUSE);
}
