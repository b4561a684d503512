//! Another embedding model, and none for a while: vectors that were made are not made again.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::support::{Server, lmao_json, lmao_json_with};

/// The same model under another name, which reads its passages with something before them: its vectors are other ones.
fn with_a_prefix(model: &Path, folder: &Path) -> PathBuf {
    let other = folder.join("other-model");
    fs::create_dir(&other).expect("a folder");
    for file in fs::read_dir(model).expect("a model").map(|file| file.expect("a file")) {
        symlink(file.path(), other.join(file.file_name())).expect("a link");
    }
    let manifest = other.join("manifest.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&manifest).expect("a manifest")).expect("JSON");
    text["id"] = json!("other");
    text["passage_prefix"] = json!("passage: ");
    fs::remove_file(&manifest).expect("the link goes");
    fs::write(manifest, text.to_string()).expect("the other manifest");
    other
}

#[tokio::test]
async fn vectors_of_another_model_are_made_once_and_outlive_a_rebuild_without_it() {
    let Some(shared) = std::env::var_os("LMAO_TEST_SHARED").map(PathBuf::from) else {
        println!("left out: vectors of another model: LMAO_TEST_SHARED names no folder with a model");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    for bird in ["crane", "heron", "stork"] {
        let text = format!("The {bird} stands in the shallow water every morning.");
        let reply = admin.upload(&format!("{bird}.txt"), text.into_bytes(), None).await.expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    assert!(server.sigterm().await.success());

    let model = shared.join("models/all-mpnet-base-v2-w8");
    let one = format!("dir:{}", model.display());
    let other = format!("dir:{}", with_a_prefix(&model, folder.path()).display());
    let reembed = |models: &str| lmao_json(&data, &["models", "reembed"], models);
    let digest = |models: &str| lmao_json(&data, &["projections", "digest"], models)[1]["digest"].clone();
    let words = digest("off");
    assert_eq!(reembed(&one)["documents"], 3);
    let vectors = digest(&one);
    assert_ne!(vectors, words);
    let again = reembed(&other);
    assert_eq!((&again["model"], &again["documents"], &again["failed"]), (&json!("other"), &json!(3), &json!(0)));
    let others = digest(&other);
    assert!(others != vectors && others != words);
    assert_eq!(reembed(&other)["documents"], 0, "they have them");

    lmao_json(&data, &["projections", "rebuild", "search"], "off");
    assert_eq!(digest("off"), others, "what is stored is taken in, whether or not anybody can ask for it now");
    let found = lmao_json(&data, &["search", "--type", "semantic", "a bird at dawn"], &other);
    assert_eq!((found["results"].as_array().map(Vec::len), &found["notices"]), (Some(3), &json!([])));

    // Nothing says any more what the model is: words alone, until somebody asks for vectors.
    fs::remove_file(data.join("snapshots.db")).expect("there are snapshots");
    fs::remove_dir_all(data.join("search")).expect("there is an index");
    lmao_json(&data, &["projections", "rebuild", "search"], "off");
    assert_eq!(digest("off"), words);
    // A document that comes with vectors then does not hide that the others have none.
    let egret = folder.path().join("egret.txt");
    fs::write(&egret, "The egret stands in the shallow water every evening.").expect("a file");
    lmao_json(&data, &["ingest", &egret.to_string_lossy()], &other);
    let message = || lmao_json(&data, &["models", "status"], &other)["message"].to_string();
    assert!(message().contains("3 passages have no vector"), "{}", message());
    assert_eq!(reembed(&other)["documents"], 0, "nothing is embedded again");
    assert_eq!(message(), "\"other\"");
    let mended = digest(&other);
    lmao_json(&data, &["projections", "rebuild", "search"], &other);
    assert_eq!(digest(&other), mended);
}

/// The message of a component that `lmao models status` shows beside the general model.
fn of_domain(data: &Path, settings: &[(&str, &str)]) -> String {
    lmao_json_with(data, &["models", "status"], settings)["domain"]["message"].to_string()
}

#[tokio::test]
async fn code_goes_to_the_model_for_code_and_back() {
    let shared = std::env::var_os("LMAO_TEST_SHARED").map(PathBuf::from);
    let cache = std::env::var_os("LMAO_MODEL_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/lmao/models")));
    let small = cache.map(|cache| cache.join("bge-small-en-v1.5-int8")).filter(|small| small.is_dir());
    let (Some(shared), Some(small)) = (shared, small) else {
        println!(
            "left out: code goes to the model for code: LMAO_TEST_SHARED names no folder, or no model is in the cache"
        );
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let general = format!("dir:{}", shared.join("models/all-mpnet-base-v2-w8").display());
    // Another model in the place of one for code: what is shown is where passages go.
    let code = folder.path().join("for-code");
    fs::create_dir(&code).expect("a folder");
    for file in ["model.onnx", "tokenizer.json"] {
        symlink(small.join(file), code.join(file)).expect("a link");
    }
    let manifest = json!({ "id": "for code", "dimensions": 384, "pooling": "cls", "max_tokens": 512 });
    fs::write(code.join("manifest.json"), manifest.to_string()).expect("a manifest");
    let code = format!("dir:{}", code.display());

    let files = [
        ("crane.txt", "The crane stands in the shallow water every morning and waits for fish."),
        ("area.py", "def area(width, height):\n    total = width * height\n    return total\n"),
    ];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    let settings = |domain| [("LMAO_MODELS", general.as_str()), ("LMAO_DOMAIN_MODEL", domain)];
    let (on, off) = (settings(code.as_str()), settings("off"));
    for (name, _) in files {
        let file = folder.path().join(name);
        lmao_json_with(&data, &["ingest", &file.to_string_lossy()], &off);
    }
    let found = |settings: &[(&str, &str)]| {
        let found = lmao_json_with(&data, &["search", "--type", "semantic", "how large is a rectangle"], settings);
        found["results"].as_array().map_or(0, Vec::len)
    };
    let digest =
        |settings: &[(&str, &str)]| lmao_json_with(&data, &["projections", "digest"], settings)[1]["digest"].clone();
    let reembed = |settings: &[(&str, &str)]| lmao_json_with(&data, &["models", "reembed"], settings);
    let all_general = digest(&off);
    assert_eq!(found(&off), 2, "without a model for code, code is in the general space");
    assert!(of_domain(&data, &off).contains("the general model embeds code too"), "{}", of_domain(&data, &off));

    let made = reembed(&on);
    assert_eq!((&made["domain"], &made["documents"], &made["failed"]), (&json!("for code"), &json!(2), &json!(0)));
    assert_ne!(digest(&on), all_general);
    assert_eq!(of_domain(&data, &on), "\"for code\"");
    assert_eq!(reembed(&on)["documents"], 0, "they have them, prose alone too");
    assert_eq!(found(&on), 2, "each in its space");
    let both = digest(&on);
    lmao_json_with(&data, &["projections", "rebuild", "search"], &off);
    assert_eq!(digest(&on), both, "what is stored is taken in, whether or not the model is in use");
    assert!(of_domain(&data, &off).contains("until `lmao models reembed`"), "{}", of_domain(&data, &off));
    assert_eq!(found(&off), 1, "code is not in the general space now");

    let made = reembed(&off);
    assert_eq!((&made["domain"], &made["documents"]), (&Value::Null, &json!(2)));
    assert_eq!((digest(&off), found(&off)), (all_general, 2));
}
