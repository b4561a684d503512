//! Servers that are spoken to by TLS, with certificates of an authority that only their owners know. NATS speaks it itself; in
//! front of the others, which need not be built with it, stands an end of TLS, for Postgres with its question beforehand.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener as StdListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use uuid::Uuid;

use crate::{
    degradation::part,
    distributed::{PASSWORD, System, server},
};

const HOST: &str = "localhost";
/// With which a client of Postgres asks for TLS (PostgreSQL, Frontend/Backend Protocol, SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// An authority with a certificate for this host, as files in PEM.
struct Authority {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    acceptor: TlsAcceptor,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let names = CertificateParams::new([HOST.to_owned()]).expect("a name");
        let certificate = names.signed_by(&key, &issuer).expect("a certificate");
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).expect("it can be written");
            path
        };
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .expect("a certificate and its key");
        Self {
            ca: write("ca.pem", issuer.pem()),
            certificate: write("certificate.pem", certificate.pem()),
            key: write("key.pem", key.serialize_pem()),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    /// An end of TLS in front of a server, and its port.
    async fn before(&self, address: String, asks_first: Asks) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let acceptor = self.acceptor.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, acceptor.clone(), address.clone(), asks_first));
            }
        });
        port
    }

    /// A NATS server that takes nothing but TLS, and its port.
    async fn nats(&self, folder: &Path) -> (Nats, u16) {
        let free = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let (file, store) = (folder.join("nats.conf"), folder.join("nats"));
        let settings = format!(
            "listen: \"127.0.0.1:{port}\"\nmax_payload: 8MB\njetstream {{ store_dir: {store:?} }}\n\
             tls {{ cert_file: {:?}, key_file: {:?} }}\n",
            self.certificate, self.key
        );
        fs::write(&file, settings).expect("it can be written");
        let mut command = Command::new(server("LMAO_TEST_NATS_SERVER"));
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let nats = Nats(command.spawn().expect("it can be started"));
        for _ in 0..300 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                return (nats, port);
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("the NATS server does not listen");
    }
}

/// Whether a client asks in plain text whether it may speak TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    First,
    Never,
}

/// A server that ends with its test.
struct Nats(Child);

impl Drop for Nats {
    fn drop(&mut self) {
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

async fn pass(mut client: TcpStream, acceptor: TlsAcceptor, address: String, asks: Asks) -> std::io::Result<()> {
    if asks == Asks::First {
        let mut request = [0; 8];
        client.read_exact(&mut request).await?;
        // Whoever speaks plain text gets no answer.
        if request != SSL_REQUEST {
            return Ok(());
        }
        client.write_all(b"S").await?;
    }
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(address).await?;
    copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

/// The `host:port` of a URL.
fn authority(url: &str) -> String {
    let rest = url.split_once("://").expect("a scheme").1;
    let rest = rest.split(['/', '?']).next().expect("one part");
    rest.rsplit('@').next().expect("one part").to_owned()
}

/// The settings of a system of which every server is behind TLS.
async fn settings(authority_of: &Authority, nats: u16, ca: &Path) -> Vec<(String, String)> {
    let (name, ca) = (format!("t{}", Uuid::new_v4().simple()), ca.display());
    let url = |variable: &str| authority(&server(variable));
    let postgres = authority_of.before(url("LMAO_TEST_POSTGRES"), Asks::First).await;
    let search = authority_of.before(url("LMAO_TEST_ELASTICSEARCH"), Asks::Never).await;
    let redis = authority_of.before(url("LMAO_TEST_REDIS"), Asks::Never).await;
    let tables = server("LMAO_TEST_POSTGRES").replace(&url("LMAO_TEST_POSTGRES"), &format!("{HOST}:{postgres}"));
    [
        ("LMAO_LOG", format!("tls://{HOST}:{nats}?namespace={name}&ca={ca}")),
        ("LMAO_READ_MODEL", format!("{tables}?schema={name}&sslmode=verify-full&sslrootcert={ca}")),
        ("LMAO_SEARCH", format!("elasticsearch+https://{HOST}:{search}?prefix={name}&ca={ca}")),
        ("LMAO_CACHE", format!("rediss://{HOST}:{redis}?prefix={name}&ca={ca}")),
        ("LMAO_MASTER_KEY", "7".repeat(64)),
        ("LMAO_ADMIN_PASSWORD", PASSWORD.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_is_spoken_to_by_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let ours = Authority::new(folder.path());
    let (_nats, port) = ours.nats(folder.path()).await;
    let system = System::on(settings(&ours, port, &ours.ca).await);
    let made = tokio::task::block_in_place(|| system.run(&["migrate"]));
    assert!(!made.as_array().expect("changes").is_empty(), "{made}");

    let node = system.node("all", "all").await;
    let admin = system.admin(&node).await;
    let text = b"Spring tides come twice a month, at the new and at the full moon.\n".to_vec();
    let uploaded = admin.upload("tides.txt", text, None).await.expect("an answer");
    assert_eq!(uploaded.body["status"], "success", "{}", uploaded.body);
    let said = admin.chat(None, "When do spring tides come?", None).await.expect("an answer");
    assert_eq!(said.body["metadata"]["citations"][0]["filename"], "tides.txt", "{}", said.body);
    for name in ["nats", "postgres", "elasticsearch", "redis"] {
        assert_eq!(part(&admin, name).await["state"], "ok", "{name}");
    }
    assert!(node.sigterm().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_another_authority_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("other");
    fs::create_dir(&other).expect("it can be made");
    let (ours, other) = (Authority::new(folder.path()), Authority::new(&other));
    let (_nats, port) = ours.nats(folder.path()).await;
    let trusting = settings(&ours, port, &ours.ca).await;
    for (variable, says) in
        [("LMAO_LOG", "certificate"), ("LMAO_READ_MODEL", "sslrootcert"), ("LMAO_SEARCH", "certificate")]
    {
        let (ca, wrong) = (ours.ca.display().to_string(), other.ca.display().to_string());
        let change = |(name, value): &(String, String)| {
            (name.clone(), if name == variable { value.replace(&ca, &wrong) } else { value.clone() })
        };
        let system = System::on(trusting.iter().map(change).collect());
        let output = tokio::task::block_in_place(|| system.output(&["migrate"]));
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{variable}");
        assert!(complaint.contains(says), "{variable}: {complaint}");
    }
}
