//! The description of the API is committed, so that a change to it is seen in a diff.

use std::path::Path;

#[test]
fn the_committed_description_is_the_one_served() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/openapi.json");
    let current = lmao_gateway::openapi_json();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        committed == current,
        "schemas/openapi.json is not up to date: run this test with UPDATE=1 and read the diff"
    );
}

#[test]
fn every_route_but_the_open_ones_names_the_token() {
    let spec: serde_json::Value = serde_json::from_str(&lmao_gateway::openapi_json()).unwrap();
    for (path, operations) in spec["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let open = path.starts_with("/health") || path == "/auth/login";
            assert_eq!(operation.get("security").is_none(), open, "{method} {path}");
        }
    }
}
