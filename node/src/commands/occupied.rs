//! A data directory that somebody has: a server is asked, a command is waited for, and whoever just begins or ends as well.

use std::{path::Path, time::Duration};

use lmao_adapters::data_dir::{self, DataDir, Holder, Mode, Running};
use tokio::time::{Instant, sleep};

use crate::{
    compose::existing,
    config::Config,
    exit::{Code, Stop},
    output::note,
};

/// How long a server may take until it says where it listens, or, asked to end, until it has.
const PASSING: Duration = Duration::from_secs(30);
/// How long one command waits for another: most take less. One that takes longer answers meanwhile, if it listens.
const COMMAND: Duration = Duration::from_secs(5);
/// How long a lock is waited for that others want as well.
const LOCK: Duration = Duration::from_secs(20);
/// A wait that is longer than this is worth a word.
const UNNOTICED: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

/// What is to happen where there is no data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// One is made.
    Make,
    /// It is an error: what has nothing to work on makes none.
    Refuse,
}

/// The address of the process that uses the data directory, once it has one; `None` when nobody uses it. A command is given
/// some seconds to end first, since it would not wait for others.
///
/// # Errors
/// [`Code::Unreachable`] when somebody uses it and does not listen.
pub(super) async fn address(data: &Path) -> Result<Option<String>, Stop> {
    let mut wait = Wait::begin(PASSING);
    let (mut holder, mut since) = (0, Instant::now());
    loop {
        let Some(running) = DataDir::running(data) else { return Ok(None) };
        if running.pid != holder {
            (holder, since) = (running.pid, Instant::now());
        }
        let patience = match running.holder {
            Holder::Server => Duration::ZERO,
            Holder::Command => COMMAND,
        };
        if let Some(address) = &running.address
            && (since.elapsed() >= patience || wait.is_over())
        {
            return Ok(Some(address.trim_end_matches('/').to_owned()));
        }
        if wait.is_over() {
            let text = format!("the data directory {} is in use by {running}, which does not listen", data.display());
            return Err(Stop::new(Code::Unreachable, text).hint("wait until it is done, or stop it"));
        }
        wait.on(Some(&running)).await;
    }
}

/// Locks the data directory; waits for a command that has it, and for a server that begins or ends, not for one that serves.
///
/// # Errors
/// As [`DataDir::open`]; [`Code::Unreachable`] where there is none and none is to be made.
pub(super) async fn lock(config: &Config, absent: Absent) -> Result<DataDir, Stop> {
    if absent == Absent::Refuse {
        existing(config)?;
    }
    let mut wait = Wait::begin(LOCK);
    loop {
        match DataDir::open(&config.data, Mode::Exclusive) {
            Err(data_dir::Error::InUse { by, .. })
                if !wait.is_over() && by.as_ref().is_none_or(|by| !by.is_serving()) =>
            {
                wait.on(by.as_ref()).await;
            }
            opened => return opened.map_err(Stop::from),
        }
    }
}

/// Waiting for somebody, with an end, and not in silence.
struct Wait {
    begun: Instant,
    limit: Duration,
    told: bool,
}

impl Wait {
    fn begin(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit, told: false }
    }

    fn is_over(&self) -> bool {
        self.begun.elapsed() >= self.limit
    }

    async fn on(&mut self, running: Option<&Running>) {
        if let Some(running) = running
            && !self.told
            && self.begun.elapsed() > UNNOTICED
        {
            note(format_args!("note: waiting for {running}, which uses the data directory"));
            self.told = true;
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(data: &Path) -> Config {
        Config { data: data.to_owned(), ..Config::default() }
    }

    #[tokio::test]
    async fn a_command_is_waited_for_and_a_server_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let first = lock(&config, Absent::Make).await.unwrap();
        let (second, ()) = tokio::join!(lock(&config, Absent::Refuse), async {
            sleep(Duration::from_millis(500)).await;
            drop(first);
        });
        let server = second.unwrap().for_server().unwrap();
        server.set_address("http://127.0.0.1:8000/").unwrap();
        assert_eq!(address(folder.path()).await.unwrap().as_deref(), Some("http://127.0.0.1:8000"));
        let refused = lock(&config, Absent::Refuse).await.unwrap_err().to_string();
        assert!(refused.contains("in use by process") && refused.contains("stop it first"), "{refused}");
        // Asked to end, it listens no more; whoever comes then waits until it is gone.
        server.clear_address().unwrap();
        let (nobody, ()) = tokio::join!(address(folder.path()), async {
            sleep(Duration::from_millis(500)).await;
            drop(server);
        });
        assert_eq!(nobody.unwrap(), None);
    }

    #[tokio::test]
    async fn where_there_is_none_none_is_made_unless_it_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let refused = lock(&config(&data), Absent::Refuse).await.unwrap_err();
        assert_eq!((refused.code, data.exists()), (Code::Unreachable, false));
        lock(&config(&data), Absent::Make).await.unwrap();
    }
}
