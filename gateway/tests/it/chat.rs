//! Messages, their answers, and their repetitions.

use lmao_events::Category;
use serde_json::json;
use uuid::Uuid;

use crate::{
    core::Mood,
    world::{World, send},
};

const CHAT: &str = "/api/v1/chat/message";

#[tokio::test]
async fn a_message_is_answered_in_a_session_of_its_own() {
    let world = World::new().await;
    let (client, ann, bob) = (world.client(), world.ann().await, world.bob().await);
    let got = send(client.post(CHAT).body_json(&json!({ "message": "hello", "context": { "k": 1 } })), &ann).await;
    assert_eq!((got.status.as_u16(), &got.body["response"]), (200, &json!("You said: hello")));
    let metadata = &got.body["metadata"];
    assert_eq!((&metadata["tasks_completed"], &metadata["execution_time"]), (&json!(2), &json!(0.005)));
    assert_eq!((&metadata["citations"], &metadata["status"]), (&json!([]), &json!("completed")));
    assert!(!got.header("lmao-position").is_empty());

    let session = &got.body["session_id"];
    let again = send(client.post(CHAT).body_json(&json!({ "message": "and?", "session_id": session })), &ann).await;
    assert_eq!((&again.body["session_id"], &again.body["response"]), (session, &json!("You said: and?")));
    let fresh = send(client.post(CHAT).body_json(&json!({ "message": "hello", "session_id": "" })), &ann).await;
    assert_ne!(&fresh.body["session_id"], session);

    let unknown = Uuid::from_u128(7).to_string();
    for (session, token) in [(session.clone(), &bob), (json!(unknown), &ann), (json!("7"), &ann)] {
        let got = send(client.post(CHAT).body_json(&json!({ "message": "x", "session_id": session })), token).await;
        assert_eq!(got.refusal(), (404, "session_not_found"));
    }
}

#[tokio::test]
async fn a_retry_gets_the_first_outcome() {
    let world = World::new().await;
    let (client, ann, bob) = (world.client(), world.ann().await, world.bob().await);
    let hello = json!({ "message": "hello" });
    let say = async |body: &serde_json::Value, key: &str, token: &str| {
        send(client.post(CHAT).header("idempotency-key", key).body_json(body), token).await
    };
    let first = say(&hello, "k", &ann).await;
    let commits = world.core.count(Category::Session);
    let second = say(&hello, "k", &ann).await;
    // Also when the actor has forgotten it.
    world.core.forget_commands();
    let third = say(&hello, "k", &ann).await;
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    assert_eq!((first.status, &first.body), (third.status, &third.body));
    assert_eq!(world.core.count(Category::Session), commits, "nothing was said twice");

    let other = json!({ "message": "other" });
    assert_eq!(say(&other, "k", &ann).await.refusal(), (422, "idempotency_key_reused"));
    assert_eq!(say(&hello, "", &ann).await.refusal(), (400, "bad_idempotency_key"));
    let theirs = say(&other, "k", &bob).await;
    assert_eq!(theirs.body["response"], "You said: other", "a key is its user's own");

    // A refusal is not remembered: the key may come again, put right.
    let lost = json!({ "message": "hello", "session_id": Uuid::from_u128(7) });
    assert_eq!(say(&lost, "l", &ann).await.refusal(), (404, "session_not_found"));
    assert_eq!(say(&hello, "l", &ann).await.status, 200);
}

#[tokio::test]
async fn an_answer_that_fails_or_does_not_come_says_so() {
    let world = World::new().await;
    let (client, ann) = (world.client(), world.ann().await);
    *world.core.mood.lock().unwrap() = Mood::Failing;
    let got = send(client.post(CHAT).header("idempotency-key", "f").body_json(&json!({ "message": "x" })), &ann).await;
    assert_eq!(got.refusal(), (502, "out_of_order"));
    let again =
        send(client.post(CHAT).header("idempotency-key", "f").body_json(&json!({ "message": "x" })), &ann).await;
    assert_eq!(again.body["error"]["details"], got.body["error"]["details"]);
    assert!(!got.header("lmao-position").is_empty());

    *world.core.mood.lock().unwrap() = Mood::Silent;
    let got = send(client.post(CHAT).body_json(&json!({ "message": "x" })), &ann).await;
    assert_eq!((got.status.as_u16(), &got.body["response"]), (202, &json!("")));
    assert_eq!(got.body["metadata"]["status"], "processing");
}

#[tokio::test]
async fn tools_are_listed_and_called() {
    let world = World::new().await;
    let (client, ann) = (world.client(), world.ann().await);
    let listed = send(client.get("/api/v1/tools"), &ann).await;
    assert_eq!(listed.body["tools"][0]["name"], "calculator");
    assert_eq!(listed.body["tools"][0]["capabilities"], json!(["arithmetic"]));

    let path = "/api/v1/tools/calculator/execute";
    let call = json!({ "parameters": { "expression": "2+2" } });
    let run = async |key: &str| send(client.post(path).header("idempotency-key", key).body_json(&call), &ann).await;
    let first = run("k").await;
    assert_eq!((first.status.as_u16(), &first.body["status"]), (200, &json!("success")));
    assert_eq!((&first.body["result"], &first.body["tool_name"]), (&json!({ "value": 4 }), &json!("calculator")));
    world.core.forget_commands();
    assert_eq!(run("k").await.body, first.body);

    *world.core.mood.lock().unwrap() = Mood::Failing;
    let failed = run("l").await;
    assert_eq!((failed.status.as_u16(), &failed.body["status"]), (200, &json!("error")));
    assert_eq!(failed.body["result"]["reason"], "out_of_order");
    *world.core.mood.lock().unwrap() = Mood::Silent;
    let running = run("m").await;
    assert_eq!((running.status.as_u16(), &running.body["status"]), (202, &json!("running")));

    let unknown = send(client.post("/api/v1/tools/abacus/execute").body_json(&call), &ann).await;
    assert_eq!(unknown.refusal(), (404, "unknown_tool"));
    let bad = send(client.post(path).body_json(&json!({ "parameters": {} })), &ann).await;
    assert_eq!(bad.refusal(), (422, "bad_parameters"));
    assert_eq!(bad.body["error"]["details"]["faults"], json!(["expression is missing"]));
    let lost = json!({ "parameters": { "expression": "1" }, "session_id": Uuid::from_u128(7) });
    assert_eq!(send(client.post(path).body_json(&lost), &ann).await.refusal(), (404, "session_not_found"));
}
