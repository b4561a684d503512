//! The twin keeps the promises of the ports.

use std::{sync::Arc, time::Duration};

use lmao_ports::conformance::placement;

use super::Hub;

const TTL: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn leases() {
    let new = async || {
        let hub = Hub::new(TTL);
        [Arc::new(hub.clone()) as _, Arc::new(hub) as _]
    };
    placement::membership(new, TTL).await;
}

#[tokio::test(start_paused = true)]
async fn requests() {
    let new = async || {
        let hub = Hub::new(TTL);
        [Arc::new(hub.clone()) as _, Arc::new(hub) as _]
    };
    placement::router(new).await;
}
