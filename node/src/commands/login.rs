//! `lmao login`: a token for a server whose data directory is elsewhere.

use std::io::{self, IsTerminal as _};

use console::Term;
use serde_json::json;

use super::{Invocation, session::address, user::read_password};
use crate::{
    cli::Login,
    client::{Client, Credentials},
    exit::{Code, Stop},
};

/// Logs in and prints the token. The password is never an argument, which others could see and the shell would keep.
///
/// # Errors
/// Those of the server and of reaching it.
pub(crate) async fn run(invocation: &Invocation, login: Login) -> anyhow::Result<()> {
    let config = invocation.configuration(None)?.config;
    let Some(base) = address(invocation, &config).await? else {
        let text = format!("no server runs on {}", config.data.display());
        return Err(Stop::new(Code::Unreachable, text)
            .hint("name one with --server; without one, no token is needed")
            .into());
    };
    let Login { username } = login;
    let password = if io::stdin().is_terminal() { ask_password(&username, &base)? } else { read_password()? };
    let token = Client::new(&base, Credentials::Password { username, password })?.token().await?;
    let out = invocation.out;
    Ok(if out.is_json() { out.json(&json!({ "access_token": token })) } else { out.line(token) }?)
}

fn ask_password(username: &str, base: &str) -> Result<String, Stop> {
    let terminal = Term::stderr();
    let asked = terminal.write_str(&format!("password of {username} at {base}: "));
    asked
        .and_then(|()| terminal.read_secure_line())
        .map_err(|error| Stop::new(Code::Usage, "no password can be read from the terminal").because(error))
}
