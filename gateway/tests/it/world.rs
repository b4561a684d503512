//! A gateway with everything behind it, and a client.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use lmao_events::user::Role;
use lmao_gateway::{Gateway, Limits, Origins, State};
use lmao_ports::HealthState;
use poem::{
    http::StatusCode,
    test::{TestClient, TestRequestBuilder, TestResponse},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    core::Core,
    described::Described,
    index::Nothing,
    ports::{Buckets, Calculator, Channels, Empty, Files, FindsNothing, Memory, Random, Secrets, TestClock},
};

pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) state: State,
    pub(crate) core: Arc<Core>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) vault: Arc<Secrets>,
    pub(crate) tables: Arc<Empty>,
    pub(crate) index: Arc<Nothing>,
    pub(crate) cache: Arc<Memory>,
    pub(crate) files: Arc<Files>,
    pub(crate) health: Arc<crate::ports::State>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Limits { wait: Duration::from_millis(300), ..Limits::default() }).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::beside(Origins::default(), limits).await
    }

    /// With web pages of these origins.
    pub(crate) async fn beside(cors_origins: Origins, limits: Limits) -> Self {
        let clock = Arc::new(TestClock::default());
        let live = Arc::new(Channels::default());
        let files = Arc::new(Files::default());
        let core = Core::new(live.clone(), clock.clone(), files.kept.clone());
        let (vault, tables) = (Arc::new(Secrets::default()), Arc::new(Empty::default()));
        let (index, cache) = (Arc::new(Nothing::default()), Arc::new(Memory::default()));
        let health = Arc::new(crate::ports::State(Mutex::new(HealthState::Ok)));
        let state = State {
            commands: core.clone(),
            journal: core.clone(),
            read_model: tables.clone(),
            search: Arc::new(Empty::default()),
            index: index.clone(),
            retriever: Arc::new(FindsNothing),
            tools: Arc::new(Calculator),
            vault: vault.clone(),
            blobs: files.clone(),
            live,
            cache: cache.clone(),
            limiter: Arc::new(Buckets::default()),
            clock: clock.clone(),
            entropy: Arc::new(Random),
            health: health.clone(),
            metrics: Arc::new(crate::ports::Two),
            limits,
            cors_origins,
        };
        let gateway = Gateway::new(state.clone()).await.unwrap();
        let key = vault.0.lock().unwrap()["system/keyed-ids"].0.clone();
        *core.keyed_ids.lock().unwrap() = Some(key.try_into().unwrap());
        Self { gateway, state, core, clock, vault, tables, index, cache, files, health }
    }

    /// A client that is shown no answer which is not as described.
    pub(crate) fn client(&self) -> TestClient<Described<'_>> {
        TestClient::new(Described(self.gateway.endpoint()))
    }

    /// A token of somebody whom nobody needs to know.
    pub(crate) async fn token(&self, user: Uuid, role: Role) -> String {
        let State { vault, clock, entropy, .. } = &self.state;
        lmao_gateway::local_token(&**vault, &**clock, &**entropy, user, role).await.unwrap()
    }

    pub(crate) async fn ann(&self) -> String {
        self.token(Uuid::from_u128(0xa), Role::User).await
    }

    pub(crate) async fn bob(&self) -> String {
        self.token(Uuid::from_u128(0xb), Role::User).await
    }

    pub(crate) async fn admin(&self) -> String {
        self.token(Uuid::from_u128(0xad), Role::Admin).await
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: poem::http::HeaderMap,
    pub(crate) body: Value,
}

impl Got {
    pub(crate) async fn from(response: TestResponse) -> Self {
        let (status, headers) = (response.0.status(), response.0.headers().clone());
        let bytes = response.0.into_body().into_bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Self { status, headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Checks that this is a refusal in the spec's form, and gives its status and reason.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        let error = &self.body["error"];
        assert_eq!(error["code"], self.status.as_u16(), "{self:?}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert_eq!(error["request_id"], self.header("x-request-id"));
        assert!(error["timestamp"].as_str().unwrap().ends_with('Z'));
        (self.status.as_u16(), error["details"]["reason"].as_str().unwrap())
    }
}

pub(crate) async fn send<E: poem::Endpoint>(request: TestRequestBuilder<'_, E>, token: &str) -> Got {
    Got::from(request.header("authorization", format!("Bearer {token}")).send().await).await
}

pub(crate) fn login(name: &str, password: &str) -> Value {
    json!({ "username": name, "password": password })
}
