use clap::CommandFactory;

use super::*;

fn parsed(line: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["lmao"].iter().chain(line))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn options_of_every_command_may_stand_anywhere() {
    for line in ["--json search x --data d", "search --data d x --json"] {
        let cli = parsed(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.data, Some(PathBuf::from("d")));
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_our_own_words() {
    for (line, says) in [
        ("ingest", "PATH"),
        ("search x --max 0", "1..=100"),
        ("search x --max 101", "1..=100"),
        ("search x --type fuzzy", "hybrid, semantic, keyword"),
        ("search x --filter pdf", "for example type=pdf"),
        ("search x --filter colour=red", "chunk-type, tag, author"),
        ("search x --filter page=7-3", "3-7"),
        ("search x --filter document=7", "an id looks like"),
        ("search x --diversity 2", "from 0 to 1"),
        ("search x --offset 1000", "0..1000"),
        ("ingest x --max-size lots", "10MB, 512KiB"),
        ("ingest x --max-size 0", "10MB, 512KiB"),
        ("ingest x --max-files 0", "is not in 1.."),
        ("ingest x --tag=", "1 to 100 bytes"),
        ("ingest x --force", "--prune"),
        ("eval", "DIR"),
        ("eval x --stages --search-type keyword", "cannot be used with"),
        ("documents trace 7", "an id looks like"),
        ("ask hello --session seven", "an id looks like"),
        ("events --stream nothing", "\"nothing\" is not a category (session, "),
        ("events --stream document/7", "for example session/"),
        ("events --limit 0", "is not in 1.."),
        ("serve --listen here", "for example 127.0.0.1:8000"),
        ("doctor --listen localhost:8000", "for example 127.0.0.1:8000"),
        ("search x --data d --server http://localhost", "cannot be used with"),
        ("config --set models", "for example models=off"),
        ("documents list --status new", "queued, extracting"),
        ("documents retry", "--failed"),
        ("documents delete", "ID"),
        ("documents delete 7", "an id looks like"),
        ("parked retry document/7", "for example session/"),
        ("projections rebuild everything", "read_model, search"),
    ] {
        let said = parsed(&line.split(' ').collect::<Vec<_>>()).expect_err(line).to_string();
        assert!(said.contains(says), "{line}: {said}");
    }
    for line in [["search", ""], ["ask", " \n"]] {
        let said = parsed(&line).expect_err(line[0]).to_string();
        assert!(said.contains("it is empty"), "{said}");
    }
}

#[test]
fn without_arguments_there_is_help() {
    let said = parsed(&[]).expect_err("there is nothing to do");
    assert!(said.use_stderr(), "nothing was done, and the exit code says so");
    let said = said.to_string();
    for part in ["lmao serve", "ingest", "Exit codes"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn words_need_no_quotes() {
    match parsed(&["ask", "what", "is", "ownership?", "--json"]).unwrap().command {
        Command::Ask(ask) => assert_eq!(ask.question, ["what", "is", "ownership?"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sizes_are_in_the_units_that_people_write() {
    let size = |text: &str| match parsed(&["ingest", "x", "--max-size", text]).unwrap().command {
        Command::Ingest(ingest) => ingest.max_size,
        other => panic!("{other:?}"),
    };
    let sizes = ["1000", "10MB", "10 mb", "2k", "1MiB", "1m", "3GiB"].map(size);
    assert_eq!(sizes, [1000, 10_000_000, 10_000_000, 2000, 1 << 20, 1_000_000, 3 << 30]);
}

#[test]
fn events_are_of_a_stream_or_of_a_category() {
    let stream = |text: &str| match parsed(&["events", "--stream", text]).unwrap().command {
        Command::Events(events) => events.stream,
        other => panic!("{other:?}"),
    };
    assert_eq!(stream("tool-call"), Some(Filter::Category(lmao_events::Category::ToolCall)));
    let one = "document/0190a9c2-7d3e-7c44-b0a1-5d2f6e8c9b10";
    assert_eq!(stream(one), Some(Filter::Stream(one.parse().unwrap())));
}

#[test]
fn a_status_has_the_name_that_the_api_gives_it() {
    for status in Status::value_variants() {
        assert_eq!(status.to_possible_value().unwrap().get_name(), status.as_str());
    }
}
