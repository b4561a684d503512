//! Layers, refusals and masks.

use std::{fs, path::PathBuf};

use super::*;
use crate::exit::Code;

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lmao.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn from_environment(pairs: &[(&str, &str)]) -> Result<Loaded, crate::exit::Stop> {
    load(&Overrides::default(), environment(pairs))
}

#[test]
fn without_anything_the_defaults_hold() {
    let loaded = load(&Overrides::default(), []).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.origins.values().all(|origin| origin == "default"));
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    // (in the file, in the environment, on the command line) -> (value, origin)
    let cases = [
        (None, None, None, "auto", "default"),
        (Some("off"), None, None, "off", "FILE"),
        (Some("off"), Some("dir:/env"), None, "dir:/env", "LMAO_MODELS"),
        (Some("off"), Some("dir:/env"), Some("dir:/flag"), "dir:/flag", "--set"),
        (None, Some("dir:/env"), Some("off"), "off", "--set"),
        (Some("off"), None, Some("auto"), "auto", "--set"),
        (Some("off"), Some(""), None, "off", "FILE"),
    ];
    for (in_file, in_environment, on_line, value, origin) in cases {
        let (_dir, path) = file(&in_file.map_or(String::new(), |models| format!("models = {models:?}\n")));
        let variables: Vec<_> = in_environment.map(|models| ("LMAO_MODELS", models)).into_iter().collect();
        let flags = on_line.map(|models| ("--set", "models".to_owned(), models.to_owned())).into_iter().collect();
        let loaded = load(&Overrides { file: Some(path.clone()), flags }, environment(&variables)).unwrap();
        assert_eq!(loaded.config.models.to_string(), value);
        let origin = if origin == "FILE" { path.display().to_string() } else { origin.to_owned() };
        assert_eq!(loaded.origins["models"], origin);
    }
}

#[test]
fn nested_keys_come_from_double_underscores_and_stay_text() {
    let loaded = from_environment(&[
        ("LMAO_LLM__BASE_URL", "http://127.0.0.1:1/v1"),
        ("LMAO_LLM__MODEL", "7"),
        ("LMAO_LLM__API_KEY", "123456"),
    ])
    .unwrap();
    assert_eq!(loaded.config.llm.endpoint(), Some(("http://127.0.0.1:1/v1", "7")));
    assert_eq!(loaded.config.llm.api_key.unwrap().reveal(), "123456");
}

#[test]
fn unknown_keys_are_named_wherever_they_stand() {
    let (_dir, path) = file("[llm]\nbase_uri = \"http://x\"\n");
    let error = load(&Overrides { file: Some(path.clone()), flags: vec![] }, []).unwrap_err();
    assert_eq!(error.code, Code::Usage);
    assert_eq!(error.to_string(), format!("{}: \"llm.base_uri\" is no configuration key", path.display()));

    let error = from_environment(&[("LMAO_SERCH", "embedded")]).unwrap_err();
    assert_eq!(error.to_string(), "LMAO_SERCH: \"serch\" is no configuration key");

    let flags = vec![("--set", "llm.modell".to_owned(), "x".to_owned())];
    let error = load(&Overrides { file: None, flags }, []).unwrap_err();
    assert_eq!(error.to_string(), "--set: \"llm.modell\" is no configuration key");
}

#[test]
fn variables_that_are_no_keys_are_left_alone() {
    let loaded = from_environment(&[
        ("LMAO_SERVER", "http://x"),
        ("LMAO_TOKEN", "t"),
        ("LMAO_ADMIN_PASSWORD", "p"),
        ("LMAO_TEST_SHARED", "/x"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn what_nats_can_hold_follows_the_log_unless_it_is_set() {
    let url = "nats://user:secret@localhost:4222?namespace=a";
    let loaded = from_environment(&[("LMAO_LOG", url), ("LMAO_BLOBS", "file:/shared")]).unwrap();
    let Config { snapshots, vault, blobs, live, read_model, .. } = &loaded.config;
    assert_eq!((snapshots.to_string(), vault.to_string(), live.to_string()), (url.into(), url.into(), url.into()));
    assert_eq!((blobs.to_string(), read_model), ("file:/shared".to_owned(), &Tables::InDataDir));
    assert_eq!(loaded.origins["vault"], "default: as log");
    assert_eq!(loaded.origins["blobs"], "LMAO_BLOBS");
    let shown = format!("{:?} {:?}", loaded.entries(), loaded.config);
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn stores_and_roles_that_do_not_go_together_are_refused() {
    let nats = ("LMAO_LOG", "nats://localhost:4222");
    let tables = ("LMAO_READ_MODEL", "postgres://u@h/db");
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[nats, ("LMAO_VAULT", "sqlite:")], "log is on NATS and vault is not"),
        (&[("LMAO_SNAPSHOTS", "nats://h")], "snapshots is on NATS and log is not"),
        (&[("LMAO_ROLES", "gateway")], "log is a store of this node alone"),
        (&[nats, ("LMAO_ROLES", "worker,gateway")], "read_model is a store of this node alone"),
        (&[nats, tables, ("LMAO_ROLES", "worker")], "search is a store of this node alone"),
        (&[("LMAO_ROLES", "cook")], "\"cook\" is no role"),
    ];
    for (variables, fault) in cases {
        let error = from_environment(variables).unwrap_err().to_string();
        assert!(error.contains(fault), "{error}");
    }
    let search = ("LMAO_SEARCH", "elasticsearch+http://h:9200");
    let loaded = from_environment(&[nats, tables, search, ("LMAO_ROLES", "worker, gateway")]).unwrap();
    assert_eq!(loaded.config.roles.to_string(), "gateway,worker");
}

#[test]
fn addresses_that_fit_no_adapter_are_refused_without_their_passwords() {
    for (variable, address, reason) in [
        ("LMAO_LOG", "postgres://u:secret@h/db", "nothing that this build knows here"),
        ("LMAO_READ_MODEL", "nats://u:secret@h", "nothing that this build knows here"),
        ("LMAO_BLOBS", "s3://key:secret@bucket", "names no bucket"),
        ("LMAO_CACHE", "redis://", "nothing that this build knows here"),
    ] {
        let error = from_environment(&[(variable, address)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{variable}: ")), "{error}");
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let error = from_environment(&[("LMAO_MODELS", "maybe")]).unwrap_err().to_string();
    assert_eq!(
        error,
        "LMAO_MODELS: models: \"maybe\" is nothing that this build knows; use \"auto\", \"off\", \"dir:PATH\" or the name of a \
         model of the hub"
    );
}

#[test]
fn models_of_the_hub_stand_where_they_suit() {
    let loaded = from_environment(&[
        ("LMAO_MODELS", "all-mpnet-base-v2"),
        ("LMAO_DOMAIN_MODEL", "auto"),
        ("LMAO_RERANKER", "cross-encoder/ms-marco-MiniLM-L-6-v2"),
    ])
    .unwrap();
    let Config { models, domain_model, reranker, .. } = &loaded.config;
    assert_eq!((models, domain_model), (&Models::Hub("all-mpnet-base-v2".to_owned()), &Models::Auto));
    assert_eq!(reranker.to_string(), "cross-encoder/ms-marco-MiniLM-L-6-v2");
    assert_eq!((Config::default().domain_model, Config::default().reranker), (Models::Off, Models::Off));
    for (variables, fault) in [
        ([("LMAO_MODELS", "jina-embeddings-v2-base-code"), ("LMAO_RERANKER", "off")], "models: \"jina"),
        ([("LMAO_MODELS", "auto"), ("LMAO_DOMAIN_MODEL", "all-mpnet-base-v2")], "use jinaai/jina-embeddings"),
        ([("LMAO_MODELS", "off"), ("LMAO_DOMAIN_MODEL", "auto")], "works beside one"),
        ([("LMAO_MODELS", "auto"), ("LMAO_RERANKER", "dir:")], "LMAO_RERANKER: reranker: \"dir:\""),
    ] {
        let error = from_environment(&variables).unwrap_err().to_string();
        assert!(error.contains(fault), "{error}");
    }
}

#[test]
fn wrong_types_and_half_an_endpoint_are_refused() {
    let (_dir, path) = file("listen = \"here\"");
    let error = load(&Overrides { file: Some(path), flags: vec![] }, []).unwrap_err();
    assert!(error.to_string().contains("listen: an address has an IP and a port"), "{error}");

    let (_dir, path) = file("[llm]\napi_key = 424242\n");
    let error = load(&Overrides { file: Some(path), flags: vec![] }, []).unwrap_err().to_string();
    assert!(error.contains("llm.api_key") && !error.contains("424242"), "{error}");

    let error = from_environment(&[("LMAO_LLM__BASE_URL", "http://x")]).unwrap_err();
    assert!(error.to_string().contains("llm.model"), "{error}");
    let error = from_environment(&[("LMAO_LLM__TOKENIZER", "tokenizer.json")]).unwrap_err();
    assert!(error.to_string().contains("llm.tokenizer is set and llm.base_url is not"), "{error}");
    for (tokens, says) in [("1000", "at least 2048"), ("many", "no number of tokens"), ("4096", "llm.base_url is not")]
    {
        let error = from_environment(&[("LMAO_LLM__CONTEXT_TOKENS", tokens)]).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let (_dir, path) = file("[llm]\nbase_url = \"http://x\"\nmodel = \"m\"\ncontext_tokens = 4096\n");
    let loaded = load(&Overrides { file: Some(path), flags: vec![] }, []).unwrap();
    assert_eq!(loaded.config.llm.context_tokens.map(ContextTokens::get), Some(4096));
    let error = from_environment(&[("LMAO_LLM__BASE_URL", "x"), ("LMAO_LLM__MODEL", "m")]).unwrap_err();
    assert!(error.to_string().contains("not an http"), "{error}");
}

#[test]
fn a_missing_or_broken_file_is_an_error() {
    let missing = Overrides { file: Some(PathBuf::from("/nowhere/lmao.toml")), flags: vec![] };
    assert_eq!(load(&missing, []).unwrap_err().to_string(), "the configuration file /nowhere/lmao.toml cannot be read");
    let (_dir, path) = file("models = ");
    assert_eq!(load(&Overrides { file: Some(path), flags: vec![] }, []).unwrap_err().code, Code::Usage);
}

#[test]
fn secrets_are_masked_when_shown() {
    let loaded = from_environment(&[
        ("LMAO_LLM__BASE_URL", "https://me:hush@host:1/v1"),
        ("LMAO_LLM__MODEL", "m"),
        ("LMAO_LLM__API_KEY", "sk-hush"),
    ])
    .unwrap();
    let shown = format!("{:?}", loaded.entries());
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("https://********@host:1/v1"), "{shown}");
    let debug = format!("{:?}", loaded.config.llm.api_key);
    assert!(!debug.contains("hush"));
}

#[test]
fn values_survive_being_written() {
    for text in ["sqlite:", "sqlite:/var/lib/log.db"] {
        assert_eq!(text.parse::<Durable>().unwrap().to_string(), text);
    }
    assert_eq!("sqlite:///abs.db".parse::<Durable>().unwrap(), Durable::Sqlite(PathBuf::from("/abs.db")));
    for text in ["auto", "off", "dir:/m"] {
        assert_eq!(text.parse::<Models>().unwrap().to_string(), text);
    }
    assert!("dir:".parse::<Models>().is_err());
}

#[test]
fn what_is_exported_comes_from_our_keys_or_from_everybodys() {
    let file_sets = |text: &str, pairs: &[(&str, &str)]| {
        let (_dir, path) = file(text);
        load(&Overrides { file: Some(path), flags: vec![] }, environment(pairs)).unwrap()
    };
    let everybodys = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://everybody:4317"), ("OTEL_SERVICE_NAME", "chat")];
    let loaded = file_sets("telemetry = { otlp = \"https://file:4317\", sample = 0.25 }", &everybodys);
    let telemetry = &loaded.config.telemetry;
    assert_eq!(telemetry.otlp.as_ref().unwrap().as_str(), "http://everybody:4317");
    assert_eq!(loaded.origins["telemetry.otlp"], "OTEL_EXPORTER_OTLP_ENDPOINT");
    assert_eq!((telemetry.sample.get(), telemetry.service_name.as_str()), (0.25, "chat"));

    let ours = ("LMAO_TELEMETRY__OTLP", "https://ours:4317");
    let telemetry = file_sets("telemetry = { sample = 1 }", &[ours, everybodys[0]]).config.telemetry;
    assert_eq!(telemetry.otlp.as_ref().unwrap().as_str(), "https://ours:4317");
    assert!(telemetry.otlp.unwrap().is_tls());
    assert_eq!(telemetry.sample, Telemetry::default().sample);
    let sample = from_environment(&[("LMAO_TELEMETRY__SAMPLE", "0.5")]).unwrap().config.telemetry.sample;
    assert_eq!(sample.get(), 0.5);
}

#[test]
fn what_cannot_be_exported_is_refused_with_its_key() {
    for (name, value, key) in [
        ("LMAO_TELEMETRY__OTLP", "collector:4317", "telemetry.otlp"),
        ("LMAO_TELEMETRY__OTLP", "http://", "telemetry.otlp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://collector:4317", "telemetry.otlp"),
        ("LMAO_TELEMETRY__SAMPLE", "1.5", "telemetry.sample"),
        ("LMAO_TELEMETRY__SAMPLE", "NaN", "telemetry.sample"),
        ("LMAO_TELEMETRY__SAMPLE", "half", "telemetry.sample"),
        ("LMAO_TELEMETRY__SERVICE_NAME", " ", "telemetry.service_name"),
        ("LMAO_TELEMETRY__METRICS_LISTEN", "9464", "telemetry.metrics_listen"),
    ] {
        let refused = from_environment(&[(name, value)]).unwrap_err();
        assert!(format!("{refused}").contains(key), "{name}={value}: {refused}");
    }
}

#[test]
fn rates_are_whole_numbers_from_a_file_and_from_text() {
    let loaded = from_environment(&[("LMAO_RATES__REQUESTS", "7"), ("LMAO_RATES__ALL", "0")]).unwrap();
    let rates = lmao_gateway::Rates::from(loaded.config.rates);
    assert_eq!((rates.requests, rates.all, rates.logins), (7, 0, 60));
    let (_dir, path) = file("[rates]\ndocuments = 9\n");
    let loaded = load(&Overrides { file: Some(path), flags: vec![] }, []).unwrap();
    assert_eq!(lmao_gateway::Rates::from(loaded.config.rates).documents, 9);
    for bad in ["-1", "1.5", "many", "1000001"] {
        let stop = from_environment(&[("LMAO_RATES__LOGINS", bad)]).unwrap_err();
        assert!(stop.to_string().contains("rates.logins"), "{stop}");
    }
}

#[test]
fn origins_come_as_text_or_as_a_list() {
    let shown = |loaded: Loaded| loaded.config.cors_origins.to_string();
    let loaded = from_environment(&[("LMAO_CORS_ORIGINS", "https://app.example.org/, http://localhost:3000")]).unwrap();
    assert_eq!(shown(loaded), "https://app.example.org,http://localhost:3000");
    let (_dir, path) = file("cors_origins = [\"https://app.example.org\"]\n");
    let loaded = load(&Overrides { file: Some(path), flags: vec![] }, []).unwrap();
    assert_eq!(shown(loaded), "https://app.example.org");
    let stop = from_environment(&[("LMAO_CORS_ORIGINS", "*")]).unwrap_err();
    assert!(stop.to_string().contains("cors_origins") && stop.to_string().contains("no origin"), "{stop}");
}
