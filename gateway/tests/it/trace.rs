//! Why a document is, or is not, searchable.

use poem::test::{TestForm, TestFormField};
use serde_json::{Value, json};

use crate::{
    core::Mood,
    world::{Got, World, send},
};

async fn uploaded(world: &World, token: &str) -> String {
    let file = TestFormField::text("hello").name("file").filename("notes.md");
    let client = world.client();
    let request = client.post("/api/v1/documents/upload").multipart(TestForm::new().field(file));
    let got = send(request, token).await;
    let id = &got.body["document_id"];
    let id = id.as_str().or_else(|| got.body["error"]["details"]["document_id"].as_str());
    id.expect("an id").to_owned()
}

async fn trace(world: &World, token: &str, id: &str) -> Got {
    send(world.client().get(format!("/api/v1/documents/{id}/trace")), token).await
}

fn steps(got: &Got) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let steps = got.body["steps"].as_array().expect("steps").iter();
    steps.map(|step| (text(&step["step"]), text(&step["state"]))).collect()
}

fn done(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), "done".to_owned())).collect()
}

#[tokio::test]
async fn every_step_is_told_to_the_owner_alone() {
    let world = World::new().await;
    let (ann, bob) = (world.ann().await, world.bob().await);
    let id = uploaded(&world, &ann).await;
    let got = trace(&world, &ann, &id).await;
    let mut wanted = done(&["uploaded", "extracted", "chunked", "embedded", "published", "indexed"]);
    "skipped".clone_into(&mut wanted[3].1);
    assert_eq!(steps(&got), wanted, "{got:?}");
    let counts: Vec<&Value> = got.body["steps"].as_array().unwrap().iter().map(|step| &step["counts"]).collect();
    assert_eq!((&counts[0]["bytes"], &counts[1]["words"], &counts[2]["chunks"]), (&json!(5), &json!(3), &json!(2)));
    // This index has lost it.
    assert_eq!((&got.body["searchable"], &got.body["index"]["holds"]), (&json!("not_yet"), &json!(false)), "{got:?}");

    assert_eq!(trace(&world, &bob, &id).await.refusal(), (404, "document_not_found"));
    assert_eq!(trace(&world, &ann, "7").await.refusal(), (404, "document_not_found"));
    let nobody = "00000000-0000-0000-0000-000000000007";
    assert_eq!(trace(&world, &ann, nobody).await.refusal(), (404, "document_not_found"));

    assert_eq!(send(world.client().delete(format!("/api/v1/documents/{id}")), &ann).await.status, 204);
    let got = trace(&world, &ann, &id).await;
    assert_eq!(steps(&got)[6..], done(&["deleted", "blobs_removed"]), "{got:?}");
    assert_eq!(
        (&got.body["searchable"], got.body["why"].as_str()),
        (&json!("no"), Some("It was deleted; upload the file again to have it back."))
    );
    uploaded(&world, &ann).await;
    assert_eq!(steps(&trace(&world, &ann, &id).await).len(), 6, "an earlier life is over");
}

#[tokio::test]
async fn a_failure_says_where_why_and_what_to_do() {
    let world = World::new().await;
    let ann = world.ann().await;
    *world.core.mood.lock().unwrap() = Mood::Failing;
    let id = uploaded(&world, &ann).await;
    let got = trace(&world, &ann, &id).await;
    assert_eq!(steps(&got)[1], ("extracted".to_owned(), "failed".to_owned()));
    let error = &got.body["steps"][1]["errors"][0];
    assert_eq!((&error["reason"], &got.body["searchable"]), (&json!("out_of_order"), &json!("no")));
    let why = got.body["why"].as_str().unwrap();
    assert!(why.contains("the machine is out of order") && why.contains("documents retry"), "{why}");

    *world.core.mood.lock().unwrap() = Mood::Well;
    assert_eq!(send(world.client().post(format!("/api/v1/documents/{id}/retry")), &ann).await.status, 200);
    let got = trace(&world, &ann, &id).await;
    assert_eq!(steps(&got)[2], ("retry_requested".to_owned(), "done".to_owned()));
    assert_eq!(steps(&got).last().unwrap().0, "indexed");
}

#[tokio::test]
async fn what_is_on_its_way_says_how_far_it_is() {
    let world = World::new().await;
    let ann = world.ann().await;
    *world.core.mood.lock().unwrap() = Mood::Silent;
    let id = uploaded(&world, &ann).await;
    let got = trace(&world, &ann, &id).await;
    assert_eq!((steps(&got)[1].1.as_str(), &got.body["searchable"]), ("going_on", &json!("not_yet")));
    assert_eq!(got.body["why"], "Not yet: its text is being read.");
}
