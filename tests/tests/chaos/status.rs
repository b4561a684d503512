//! An operator who asks `lmao status` again and again while parts of the system die: it answers in time, whatever it has to say,
//! and says that all is well once it is.

use std::{collections::BTreeMap, process::Output, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{distributed::System, promises::eventually, support::lmao, users::World};

/// Within this time it says something.
const WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(5);

/// Asks until the end; how often it said what, by exit code.
pub(super) async fn operate(world: World, system: Arc<System>) -> BTreeMap<String, u32> {
    let mut said = BTreeMap::new();
    while world.goes_on() {
        let output = ask(&system).await.expect("lmao status answers in time");
        let code = output.status.code().map_or_else(|| output.status.to_string(), |code| format!("exit {code}"));
        *said.entry(code).or_default() += 1;
        sleep(PAUSE).await;
    }
    said
}

/// Waits until it says that all is well.
pub(super) async fn check_well(system: &System) {
    eventually("lmao status says that all is well", async || {
        let output = ask(system).await.ok_or("it does not answer in time")?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
    })
    .await;
}

async fn ask(system: &System) -> Option<Output> {
    let mut command = lmao(&["--json", "status", "--data"]);
    command.arg(system.data("operator")).envs(system.settings());
    let output = tokio::process::Command::from(command).kill_on_drop(true).output();
    timeout(WITHIN, output).await.ok().map(|output| output.expect("lmao can be started"))
}
