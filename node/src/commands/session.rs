//! A server to talk to for the length of a command.

use std::{fs, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use lmao_adapters::data_dir::DataDir;
use lmao_ports::{Journal as _, Projection, SemanticState, Semantics as _, Space};
use tokio::{net::TcpListener, sync::oneshot};

use super::{
    Invocation,
    occupied::{self, Absent, lock},
};
use crate::{
    client::{Client, Credentials, Issuer},
    compose::{ADMIN, DamagedIndex, LocalAdmin, Node, Parts, base_url},
    config::Config,
    exit::{Code, Stop},
    output::note,
    progress::{self, ModelProgress},
};

/// How often the way to a data directory is looked for anew, when a server comes and goes meanwhile.
const ATTEMPTS: u32 = 3;
/// How long the projections may take until they have the log's end, in a server of our own.
const CATCH_UP: Duration = Duration::from_secs(600);

/// Where a command is to go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To this server.
    Server(String),
    /// To whoever uses the data directory, or into it.
    DataDir,
}

/// What a command needs when it has to open the data directory itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The directory, as it is.
    Existing,
    /// The directory, with everything in it ready to be found.
    Searchable,
    /// A directory, made if there is none, and the model.
    Writable,
}

/// Chooses: `--data`, `--server`, `LMAO_SERVER`, the configured data directory, in this order.
pub(crate) fn target(invocation: &Invocation) -> Target {
    let named = match (&invocation.global.data, &invocation.global.server) {
        (Some(_), _) => None,
        (None, Some(server)) => Some(server.as_str()),
        (None, None) => invocation.variable("LMAO_SERVER"),
    };
    match named {
        Some(server) if server.contains("://") => Target::Server(server.trim_end_matches('/').to_owned()),
        Some(server) => Target::Server(format!("http://{}", server.trim_end_matches('/'))),
        None => Target::DataDir,
    }
}

/// Runs `work` with a client: of the server that was named, of the one that runs on the data directory, or of one of our
/// own that ends with the command.
///
/// # Errors
/// Those of `work`, and when there is no server and none can be started.
pub(crate) async fn with_client<T>(
    invocation: &Invocation,
    need: Need,
    work: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let config = invocation.configuration(None)?.config;
    match way(invocation, &config, need).await? {
        Way::Through(client) => work(&client).await,
        Way::Into(data) => alone(invocation, &config, data, need, work).await,
    }
}

/// The way to what a command works on.
enum Way {
    /// A server that runs.
    Through(Client),
    /// The data directory, which nobody else has.
    Into(DataDir),
}

async fn way(invocation: &Invocation, config: &Config, need: Need) -> Result<Way, Stop> {
    let absent = if need == Need::Writable { Absent::Make } else { Absent::Refuse };
    let mut attempt = 1;
    loop {
        if let Some(client) = running_client(invocation, config).await? {
            return Ok(Way::Through(client));
        }
        if config.is_distributed() {
            return Err(Stop::new(Code::Unreachable, "the log is shared with other nodes, and no server was named")
                .hint("name a gateway with --server, or start a node with `lmao serve`"));
        }
        match lock(config, absent).await {
            Ok(data) => return Ok(Way::Into(data)),
            // A server was faster: it can be asked.
            Err(_) if attempt < ATTEMPTS && DataDir::running(&config.data).is_some_and(|by| by.is_serving()) => {
                attempt += 1;
            }
            Err(stop) => return Err(stop),
        }
    }
}

/// A client of a server that runs; `None` when the data directory is meant and nobody uses it.
///
/// # Errors
/// When there are no credentials for it.
pub(crate) async fn running_client(invocation: &Invocation, config: &Config) -> Result<Option<Client>, Stop> {
    let Some(base) = address(invocation, config).await? else { return Ok(None) };
    Client::new(&base, credentials(invocation, config, &base).await?).map(Some)
}

/// The address of a server that was named, or of the one that runs on the data directory; `None` when nobody uses that.
///
/// # Errors
/// When somebody uses it and does not listen.
pub(crate) async fn address(invocation: &Invocation, config: &Config) -> Result<Option<String>, Stop> {
    match target(invocation) {
        Target::Server(base) => Ok(Some(base)),
        Target::DataDir => occupied::address(&config.data).await,
    }
}

#[async_trait]
impl Issuer for LocalAdmin {
    async fn issue(&self) -> Result<String, Stop> {
        self.token().await.map_err(|error| Stop::new(Code::Failed, "no token can be signed").because(error))
    }
}

/// The credentials for a server at `base`: `LMAO_TOKEN`, else those of the data directory that it runs on. They are never sent
/// to a server other than the one they were made for.
async fn credentials(invocation: &Invocation, config: &Config, base: &str) -> Result<Credentials, Stop> {
    if let Some(token) = given_token(invocation) {
        return Ok(token);
    }
    let address = DataDir::running(&config.data).and_then(|running| running.address);
    if address.is_none_or(|address| address.trim_end_matches('/') != base) {
        let login = format!("lmao login --server {base} --username NAME");
        return Err(Stop::new(Code::Refused, format!("there is no token for {base}")).hint(format!(
            "name the server's data directory with --data, or set LMAO_TOKEN to what `{login}` prints"
        )));
    }
    local_credentials(LocalAdmin::beside(config).await, &config.data)
}

fn given_token(invocation: &Invocation) -> Option<Credentials> {
    invocation.variable("LMAO_TOKEN").map(|token| Credentials::Token(token.to_owned()))
}

/// Tokens of the administrator's own; where the vault gives none, the password that is kept in `data`.
fn local_credentials(admin: anyhow::Result<Option<LocalAdmin>>, data: &Path) -> Result<Credentials, Stop> {
    let refused = match admin {
        Ok(Some(admin)) => return Ok(Credentials::Issued(Arc::new(admin))),
        Ok(None) => None,
        Err(error) => Some(error),
    };
    let path = data.join("admin-password");
    let password = fs::read_to_string(&path).map_err(|error| {
        Stop::new(Code::Refused, format!("the administrator's password in {} cannot be read", path.display()))
            .because(refused.unwrap_or_else(|| error.into()))
            .hint("set LMAO_TOKEN to a token of an account; `lmao login --username NAME` prints one")
    })?;
    Ok(Credentials::Password { username: ADMIN.to_owned(), password: password.trim_end().to_owned() })
}

/// Runs `work` with a server of our own, on a port of its own that only this machine reaches.
async fn alone<T>(
    invocation: &Invocation,
    config: &Config,
    data: DataDir,
    need: Need,
    work: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let parts = Parts::open(config, data, DamagedIndex::Refuse, Arc::new(ModelProgress::default())).await?;
    let node = Node::start(parts).await?;
    let (listener, client) = match prepare(&node, invocation, config, need).await {
        Ok(prepared) => prepared,
        Err(error) => {
            node.drain().await;
            return Err(error);
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(node.serve(listener, async {
        let _ = stopped.await;
    }));
    let result = work(&client).await;
    // With it goes what it has of the vault.
    drop(client);
    let _ = stop.send(());
    served.await??;
    result
}

/// What the command needs, and a way to the node.
async fn prepare(
    node: &Node,
    invocation: &Invocation,
    config: &Config,
    need: Need,
) -> anyhow::Result<(TcpListener, Client)> {
    let first = node.first_start(invocation.variable("LMAO_ADMIN_PASSWORD")).await?;
    if first.is_some() {
        let file = node.parts().data.admin_password().display().to_string();
        note(format_args!("new data directory {}; the password of {ADMIN} is in {file}", config.data.display()));
    }
    if need != Need::Existing {
        settle(node, need).await?;
    }
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let credentials = match given_token(invocation) {
        Some(token) => token,
        None => {
            let Parts { vault, journal, .. } = node.parts();
            local_credentials(LocalAdmin::of(Arc::clone(vault), journal).await, &config.data)?
        }
    };
    let client = Client::new(&base_url(listener.local_addr()?), credentials)?;
    Ok((listener, client))
}

/// Waits for the model and, where something is to be found, for the projections.
async fn settle(node: &Node, need: Need) -> anyhow::Result<()> {
    let spinner = progress::bar(None, "{spinner} {msg}");
    spinner.set_message("loading the embedding model");
    let parts = node.parts();
    if need == Need::Searchable {
        // A search of this process alone shall find all that a server would.
        parts.models.all_settled().await;
    }
    // Results and answers say it themselves.
    if let (SemanticState::Off(reason), Need::Writable) = (parts.models.settled(Space::General).await, need) {
        spinner.suspend(|| note(format_args!("note: search goes by words alone: {reason}")));
    }
    if need == Need::Searchable {
        spinner.set_message("catching up with the log");
        let tail = parts.journal.tail().await?;
        let tables: Arc<dyn Projection> = Arc::clone(&parts.read_model) as _;
        let (tables, search) = tokio::join!(tables.wait_for(tail, CATCH_UP), parts.search.wait_for(tail, CATCH_UP));
        if !(tables && search) {
            spinner.suspend(|| note("note: not everything can be found yet; see `lmao projections status`"));
        }
    }
    spinner.finish_and_clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::cli::Global;

    fn chosen(data: Option<&str>, server: Option<&str>, variable: Option<&str>) -> Target {
        let global = Global { data: data.map(PathBuf::from), server: server.map(str::to_owned), ..Global::default() };
        let environment = variable.map(|value| ("LMAO_SERVER".to_owned(), value.to_owned())).into_iter().collect();
        target(&Invocation::new(global, environment))
    }

    #[test]
    fn a_data_directory_beats_a_server_of_the_environment() {
        let server = |url: &str| Target::Server(url.to_owned());
        assert_eq!(chosen(None, None, None), Target::DataDir);
        assert_eq!(chosen(None, None, Some("")), Target::DataDir);
        assert_eq!(chosen(None, None, Some("http://a:1/")), server("http://a:1"));
        assert_eq!(chosen(None, Some("b:2"), Some("http://a:1")), server("http://b:2"));
        assert_eq!(chosen(Some("d"), None, Some("http://a:1")), Target::DataDir);
    }

    #[tokio::test]
    async fn credentials_go_only_to_the_server_of_their_directory() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("admin-password"), "secret\n").unwrap();
        let config = Config { data: folder.path().to_owned(), ..Config::default() };
        let invocation = Invocation::new(Global::default(), vec![]);
        let refused = credentials(&invocation, &config, "http://elsewhere:8000").await.err().unwrap();
        assert_eq!(refused.code, Code::Refused);
        let with_token = Invocation::new(Global::default(), vec![("LMAO_TOKEN".to_owned(), "t".to_owned())]);
        let token = credentials(&with_token, &config, "http://elsewhere:8000").await.unwrap();
        assert!(matches!(token, Credentials::Token(token) if token == "t"));
    }

    #[test]
    fn without_keys_the_password_that_was_kept_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let none = local_credentials(Err(anyhow::anyhow!("no vault")), folder.path()).err().unwrap();
        assert_eq!((none.code, none.to_string().contains("admin-password")), (Code::Refused, true));
        fs::write(folder.path().join("admin-password"), "secret\n").unwrap();
        let kept = local_credentials(Ok(None), folder.path()).unwrap();
        assert!(matches!(kept, Credentials::Password { password, .. } if password == "secret"));
    }
}
