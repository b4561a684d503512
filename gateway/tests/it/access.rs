//! Who gets in.

use std::time::Duration;

use lmao_events::user::Role;
use lmao_gateway::{FirstAdmin, Gateway, Limits, ensure_admin};
use poem::test::TestClient;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
};
use uuid::Uuid;

use crate::world::{Got, PASSWORD, World, login, send};

#[tokio::test]
async fn only_what_is_listed_is_open() {
    let world = World::new().await;
    let client = world.client();
    for open in ["/health", "/health/live", "/health/ready", "/openapi.json", "/docs"] {
        assert_eq!(client.get(open).send().await.0.status(), 200, "{open}");
    }
    let login = client.post("/auth/login").body_json(&login("nobody", PASSWORD)).send().await;
    assert_eq!(Got::from(login).await.refusal(), (401, "invalid_credentials"));
    let root = client.get("/").send().await.0;
    assert_eq!((root.status().as_u16(), root.headers()["location"].to_str().unwrap()), (303, "/docs"));
    for closed in [
        "/auth/refresh",
        "/metrics",
        "/health/",
        "/healthz",
        "/docs/x",
        "/auth/logout",
        "/admin/events",
        "/api/v1/tools",
        "/api/v1/documents",
        "/api/v1/chat/ws/new",
        "/%68ealth",
    ] {
        let got = Got::from(client.get(closed).send().await).await;
        assert_eq!(got.refusal(), (401, "missing_token"), "{closed}");
        assert_eq!(got.header("www-authenticate"), "Bearer");
    }
    // A token for a socket is no token elsewhere.
    let token = world.ann().await;
    let query = format!("/api/v1/tools?access_token={token}");
    assert_eq!(Got::from(client.get(query).send().await).await.refusal(), (401, "missing_token"));
    assert_eq!(send(client.get("/metric"), &token).await.refusal(), (404, "not_found"));
    assert_eq!(send(client.get("/metrics"), &token).await.refusal(), (403, "forbidden"));
    assert_eq!(send(client.get("/admin/events"), &token).await.refusal(), (403, "forbidden"));
    assert_eq!(send(client.get("/api/v1/tools"), &token).await.status, 200);
}

#[tokio::test]
async fn metrics_are_for_administrators() {
    let world = World::new().await;
    let client = world.client();
    let request = client.get("/metrics").header("authorization", format!("Bearer {}", world.admin().await));
    let mut response = request.send().await.0;
    assert_eq!(response.status(), 200);
    assert_eq!(response.content_type(), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(response.take_body().into_string().await.unwrap(), "two 2\n");
}

#[tokio::test]
async fn tokens_end_and_survive_a_restart() {
    let world = World::new().await;
    let token = world.ann().await;
    let again = Gateway::new(world.state.clone()).await.unwrap();
    let other = TestClient::new(again.endpoint());
    assert_eq!(send(other.get("/api/v1/tools"), &token).await.status, 200);
    world.clock.forward(Duration::from_secs(30 * 60));
    assert_eq!(send(world.client().get("/api/v1/tools"), &token).await.refusal(), (401, "token_expired"));
    assert_eq!(send(world.client().get("/api/v1/tools"), "a.b.c").await.refusal(), (401, "invalid_token"));
    let none = Got::from(world.client().get("/api/v1/tools").header("authorization", "Basic YTpi").send().await).await;
    assert_eq!(none.refusal(), (401, "missing_token"));
}

#[tokio::test]
async fn the_first_administrator_opens_accounts() {
    let world = World::new().await;
    let client = world.client();
    let opened = ensure_admin(&world.state, "admin", Some(PASSWORD.to_owned())).await.unwrap();
    let FirstAdmin::Opened { id, password } = opened else { panic!("{opened:?}") };
    assert_eq!(password, PASSWORD);
    assert_eq!(ensure_admin(&world.state, "Admin", None).await.unwrap(), FirstAdmin::Existed { id });

    let got = Got::from(client.post("/auth/login").body_json(&login("ADMIN", PASSWORD)).send().await).await;
    assert_eq!(
        (got.status.as_u16(), &got.body["token_type"], &got.body["expires_in"]),
        (200, &json!("bearer"), &json!(1800))
    );
    assert!(!got.header("lmao-position").is_empty());
    let token = got.body["access_token"].as_str().unwrap().to_owned();

    let ann = json!({ "username": "ann", "email": "ann@example.org", "password": PASSWORD });
    let created = send(client.post("/admin/users").header("idempotency-key", "a").body_json(&ann), &token).await;
    assert_eq!(created.status, 201);
    assert_eq!((&created.body["username"], &created.body["role"]), (&json!("ann"), &json!("user")));
    // The same request again is the same account; another one is refused.
    let again = send(client.post("/admin/users").header("idempotency-key", "a").body_json(&ann), &token).await;
    assert_eq!((again.status.as_u16(), &again.body), (201, &created.body));
    let changed = json!({ "username": "eve", "email": "ann@example.org", "password": PASSWORD });
    let changed = send(client.post("/admin/users").header("idempotency-key", "a").body_json(&changed), &token).await;
    assert_eq!(changed.refusal(), (422, "idempotency_key_reused"));

    let secrets = || world.vault.0.lock().unwrap().len();
    let before = secrets();
    for (body, refusal) in [
        (json!({ "username": "Ann", "email": "b@example.org", "password": PASSWORD }), (409, "username_taken")),
        (json!({ "username": "bob", "email": "ANN@example.org", "password": PASSWORD }), (409, "email_taken")),
        (json!({ "username": "", "email": "b@example.org", "password": PASSWORD }), (422, "bad_username")),
        (json!({ "username": "bob", "email": "nowhere", "password": PASSWORD }), (422, "bad_email")),
        (json!({ "username": "bob", "email": "b@example.org", "password": "short" }), (422, "bad_password")),
        (
            json!({ "username": "bob", "email": "b@example.org", "password": PASSWORD, "role": "god" }),
            (422, "bad_body"),
        ),
    ] {
        let got = send(client.post("/admin/users").body_json(&body), &token).await;
        assert_eq!(got.refusal(), refusal, "{body}");
    }
    assert_eq!(secrets(), before, "a refused account leaves no password behind");
    // The name of an account that was refused for its address is free.
    let bob = json!({ "username": "bob", "email": "bob@example.org", "password": PASSWORD });
    assert_eq!(send(client.post("/admin/users").body_json(&bob), &token).await.status, 201);

    let got = Got::from(client.post("/auth/login").body_json(&login("ann", PASSWORD)).send().await).await;
    let token = got.body["access_token"].as_str().unwrap();
    assert_eq!(send(client.post("/admin/users").body_json(&bob), token).await.refusal(), (403, "forbidden"));
}

/// A gateway that is served, and logins from chosen addresses of this machine.
struct Door(std::net::SocketAddr);

impl Door {
    async fn open(gateway: Gateway) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(gateway.serve(listener, std::future::pending()));
        Self(address)
    }

    /// The status of a login, and the whole answer.
    async fn login(&self, from: [u8; 4], name: &str, password: &str) -> (u16, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(self.0).await.unwrap();
        let body = login(name, password).to_string();
        let request = format!(
            "POST /auth/login HTTP/1.1\r\nhost: lmao\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer[9..12].parse().unwrap(), answer)
    }
}

const ATTACKER: [u8; 4] = [127, 0, 0, 2];
const HOME: [u8; 4] = [127, 0, 0, 1];
const ABROAD: [u8; 4] = [127, 0, 0, 3];

#[tokio::test]
async fn guessing_a_password_is_slowed_down_where_it_is_guessed() {
    let world = World::new().await;
    ensure_admin(&world.state, "admin", Some(PASSWORD.to_owned())).await.unwrap();
    let door = Door::open(world.gateway).await;
    for _ in 0..10 {
        assert_eq!(door.login(ATTACKER, "admin", "wrong password").await.0, 401);
    }
    // Now even the right one has to wait there; other names do not, and nobody has to elsewhere.
    let (status, answer) = door.login(ATTACKER, "Admin", PASSWORD).await;
    assert!(status == 429 && answer.contains("too_many_logins") && answer.contains("retry-after: 60"), "{answer}");
    assert_eq!(door.login(ATTACKER, "other", PASSWORD).await.0, 401);
    assert_eq!(door.login(HOME, "admin", PASSWORD).await.0, 200);
}

#[tokio::test]
async fn guessing_from_everywhere_locks_nobody_out_at_home() {
    let world = World::new().await;
    let cache = world.cache.clone();
    ensure_admin(&world.state, "admin", Some(PASSWORD.to_owned())).await.unwrap();
    let door = Door::open(world.gateway).await;
    assert_eq!(door.login(HOME, "admin", PASSWORD).await.0, 200);
    assert_eq!(door.login(ATTACKER, "admin", "wrong password").await.0, 401);
    // As if 998 others had tried meanwhile.
    for (key, count) in cache.counters.lock().unwrap().iter_mut() {
        if key.starts_with("login/failed/") && !key.contains('@') {
            *count += 998;
        }
    }
    assert_eq!(door.login(ABROAD, "admin", "wrong password").await.0, 401, "the thousandth");
    assert_eq!(door.login(ABROAD, "admin", PASSWORD).await.0, 429);
    assert_eq!(door.login(HOME, "admin", PASSWORD).await.0, 200);
}

#[tokio::test]
async fn a_made_up_password_is_long() {
    let world = World::new().await;
    let opened = ensure_admin(&world.state, "admin", None).await.unwrap();
    let FirstAdmin::Opened { password, .. } = opened else { panic!("{opened:?}") };
    assert!(password.len() == 24 && password.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let token = world.token(Uuid::from_u128(1), Role::Admin).await;
    assert_eq!(send(world.client().get("/admin/events"), &token).await.status, 200);
}

#[tokio::test]
async fn administrators_see_what_is_set_aside() {
    let world = World::new().await;
    let (client, ann, admin) = (world.client(), world.ann().await, world.admin().await);
    assert_eq!(send(client.get("/admin/parked"), &ann).await.refusal(), (403, "forbidden"));
    let got = send(client.get("/admin/parked"), &admin).await;
    assert_eq!((got.status.as_u16(), got.body), (200, json!({ "actors": [], "projections": [] })));
    let retry = |stream: &str| client.post("/admin/parked/retry").body_json(&json!({ "stream": stream }));
    let stream = format!("document/{}", Uuid::from_u128(7));
    assert_eq!(send(retry(&stream), &ann).await.refusal(), (403, "forbidden"));
    assert_eq!(send(retry(&stream), &admin).await.refusal(), (404, "not_parked"));
    assert_eq!(send(retry("nonsense"), &admin).await.refusal(), (422, "bad_stream"));
}

#[tokio::test]
async fn pages_of_other_origins_call_only_where_they_are_named() {
    let (ours, theirs) = ("https://app.example.org", "https://evil.example.org");
    let world = World::beside(ours.parse().unwrap(), Limits::default()).await;
    let (client, token) = (world.client(), world.ann().await);
    let preflight = async |client: &TestClient<_>, origin: &str| {
        let request = client.options("/api/v1/documents").header("origin", origin);
        Got::from(request.header("access-control-request-method", "DELETE").send().await).await
    };
    let got = preflight(&client, ours).await;
    assert_eq!((got.status.as_u16(), got.header("access-control-allow-origin")), (204, ours));
    assert!(got.header("access-control-allow-methods").contains("DELETE"));
    assert!(got.header("access-control-allow-headers").contains("authorization"));
    assert_eq!(got.header("access-control-allow-credentials"), "");
    let got = preflight(&client, theirs).await;
    assert_eq!((got.refusal(), got.header("access-control-allow-origin")), ((401, "missing_token"), ""));
    // Asked without a preflight's header it is a request like any other.
    let got = Got::from(client.options("/api/v1/documents").header("origin", ours).send().await).await;
    assert_eq!(got.refusal(), (401, "missing_token"));

    // Refusals are to be read as well; and what others get is not kept for ours.
    let got = send(client.get("/api/v1/tools").header("origin", ours), &token).await;
    assert_eq!((got.status.as_u16(), got.header("access-control-allow-origin")), (200, ours));
    assert!(got.header("access-control-expose-headers").contains("lmao-position"));
    let got = Got::from(client.get("/api/v1/tools").header("origin", ours).send().await).await;
    assert_eq!((got.refusal(), got.header("access-control-allow-origin")), ((401, "missing_token"), ours));
    let got = send(client.get("/api/v1/tools").header("origin", theirs), &token).await;
    assert_eq!(
        (got.status.as_u16(), got.header("access-control-allow-origin"), got.header("vary")),
        (200, "", "origin")
    );

    let closed = World::new().await;
    let got = preflight(&closed.client(), ours).await;
    assert_eq!((got.refusal(), got.header("access-control-allow-origin")), ((401, "missing_token"), ""));
}
