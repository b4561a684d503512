//! `lmao user`: accounts.

use std::io::{self, BufRead as _};

use serde_json::{Value, json};

use super::{
    Invocation,
    session::{Need, with_client},
};
use crate::{
    cli::{Role, User},
    compose::random_password,
    exit::{Code, Stop},
};

/// Opens an account.
///
/// # Errors
/// Those of the server and of reaching it.
pub(crate) async fn run(invocation: &Invocation, user: User) -> anyhow::Result<()> {
    let User::Add { name, email, role, password_stdin } = user;
    let given = if password_stdin { Some(read_password()?) } else { None };
    let password = given.clone().unwrap_or_else(random_password);
    let body = json!({ "username": name, "email": email, "password": password, "role": Role::as_str(role) });
    let account: Value =
        with_client(invocation, Need::Existing, async |client| Ok(client.post("/admin/users", &body).await?)).await?;
    if invocation.out.is_json() {
        let mut account = account;
        if let (None, Some(fields)) = (given, account.as_object_mut()) {
            fields.insert("password".to_owned(), password.into());
        }
        return Ok(invocation.out.json(&account)?);
    }
    invocation.out.line(format!("account {name} ({}) is open", role.as_str()))?;
    if given.is_none() {
        invocation.out.line(format!("its password, shown this once: {password}"))?;
    }
    Ok(())
}

/// The first line of standard input.
pub(super) fn read_password() -> Result<String, Stop> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Stop::new(Code::Usage, "no password can be read from standard input").because(error))?;
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(Stop::new(Code::Usage, "the password on standard input is empty"));
    }
    Ok(password)
}
