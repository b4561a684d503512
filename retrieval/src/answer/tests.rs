use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use expect_test::{Expect, expect};
use lmao_events::{Answer, Failure};
use lmao_ports::{Hit, Intent, PageTurn, TokenSink};
use proptest::prelude::*;

use super::{Answerer, Extractive, Question};
use crate::search::fakes::{Leg, MemoryIndex, hit};

mod generative;
mod names;

/// The passages that a search about ownership found: prose in hard-wrapped lines, a list, code, a table, and one about
/// something else.
fn passages() -> Vec<Hit> {
    vec![
        hit(
            1,
            0,
            "Understanding Ownership > What Is Ownership?",
            "prose",
            "Ownership is a set of rules that govern how a Rust program manages memory. All programs\nhave to manage the way they use a computer’s memory while running. Some languages have\ngarbage collection that regularly looks for no-longer-used memory as the program runs;\nin other languages, the programmer must explicitly allocate and free the memory.",
        ),
        hit(
            1,
            1,
            "Understanding Ownership > Ownership Rules",
            "prose",
            "First, let’s take a look at the ownership rules. Keep these rules in mind:\n\n- Each value in Rust has an *owner*.\n- There can only be one owner at a time.\n- When the owner goes out of scope, the value will be dropped.\n",
        ),
        hit(
            2,
            2,
            "Ownership > Move",
            "code",
            "    let s1 = String::from(\"hello\");\n    let s2 = s1; // the ownership of the value moves\n\n    println!(\"{s1}, world!\");",
        ),
        hit(
            3,
            3,
            "Glossary",
            "table",
            "| word | meaning |\n|---|---|\n| owner | the variable that drops the value |\n| crate | a unit of compilation |",
        ),
        hit(4, 4, "Bread", "prose", "Knead the dough for ten minutes. Let it rise in a warm place until doubled."),
    ]
}

async fn run(answerer: &dyn Answerer, query: &str, hits: Vec<Hit>) -> (Result<Answer, Failure>, Vec<String>) {
    ask(answerer, Question { query: query.to_owned(), hits, ..Question::default() }).await
}

async fn ask(answerer: &dyn Answerer, question: Question) -> (Result<Answer, Failure>, Vec<String>) {
    let shown = Arc::new(Mutex::new(vec![]));
    let sink: TokenSink = {
        let shown = Arc::clone(&shown);
        Box::new(move |piece: &str| shown.lock().unwrap().push(piece.to_owned()))
    };
    let answer = answerer.answer(question, sink).await;
    let shown = shown.lock().unwrap().clone();
    (answer, shown)
}

fn print(answer: &Answer) -> String {
    let sources = answer.citations.iter().map(|citation| {
        let section = citation.section.as_deref().unwrap_or_default();
        format!("[{}] {} {section} {}..{}\n", citation.n, citation.filename, citation.start, citation.end)
    });
    format!("{}\n--- grounded: {}\n{}", answer.text, answer.grounded, sources.collect::<String>())
}

fn assert_quotes_stand_in_their_passages(answer: &Answer, hits: &[Hit]) {
    for (n, citation) in (1..).zip(&answer.citations) {
        let hit = hits.iter().find(|hit| hit.chunk_id == citation.chunk_id).unwrap();
        let start = usize::try_from(citation.start - hit.start).unwrap();
        let end = usize::try_from(citation.end - hit.start).unwrap();
        assert_eq!(hit.content.get(start..end), Some(citation.quote.as_str()));
        assert_eq!(citation.n, n);
        assert!(answer.text.contains(&format!("[{n}]")));
    }
}

async fn check(leg: Arc<Leg>, query: &str, expected: &Expect) {
    let (answer, shown) = run(&Extractive::new(leg), query, passages()).await;
    let answer = answer.unwrap();
    assert_eq!(shown.concat(), answer.text, "what is shown is the answer");
    assert_eq!((answer.model.as_str(), answer.usage), ("extractive", None));
    assert_quotes_stand_in_their_passages(&answer, &passages());
    expected.assert_eq(&print(&answer));
}

#[tokio::test]
async fn the_rules_are_quoted() {
    check(Leg::off(), "What are the ownership rules in Rust?", &expect![[r#"
        From your documents:

        Ownership is a set of rules that govern how a Rust program manages memory. [1] First, let’s take a look at the ownership rules. [2]

        Keep these rules in mind:

        - Each value in Rust has an *owner*.
        - There can only be one owner at a time.
        - When the owner goes out of scope, the value will be dropped. [3]
        --- grounded: true
        [1] file1.md Understanding Ownership > What Is Ownership? 0..74
        [2] file1.md Understanding Ownership > Ownership Rules 1000..1050
        [3] file1.md Understanding Ownership > Ownership Rules 1051..1218
    "#]]).await;
}

#[tokio::test]
async fn a_question_about_dropping_gets_list_and_table() {
    check(
        Leg::off(),
        "when is the value of an owner dropped",
        &expect![[r#"
            From your documents:

            Keep these rules in mind:

            - Each value in Rust has an *owner*.
            - There can only be one owner at a time.
            - When the owner goes out of scope, the value will be dropped. [1]

            owner — the variable that drops the value [2]
            --- grounded: true
            [1] file1.md Understanding Ownership > Ownership Rules 1051..1218
            [2] file3.md Glossary 3029..3074
        "#]],
    )
    .await;
}

#[tokio::test]
async fn code_is_a_block() {
    check(
        Leg::off(),
        "let s2 = s1 ownership moves",
        &expect![[r#"
        From your documents:

        ```
            let s1 = String::from("hello");
            let s2 = s1; // the ownership of the value moves

            println!("{s1}, world!");
        ```
        [1]
        --- grounded: true
        [1] file2.md Ownership > Move 2000..2119
    "#]],
    )
    .await;
}

#[tokio::test]
async fn what_a_question_names_has_to_be_named() {
    check(
        Leg::off(),
        "Which rules of ownership does Haskell have?",
        &expect![[r#"
        Nothing relevant to this question was found in your documents: what comes nearest to it does not mention “Haskell”.
        --- grounded: false
    "#]],
    )
    .await;
}

#[tokio::test]
async fn meaning_counts_where_a_model_is_ready() {
    check(
        Leg::ready(),
        "how long does the dough need kneading?",
        &expect![[r#"
        From your documents:

        Knead the dough for ten minutes. [1]
        --- grounded: true
        [1] file4.md Bread 4000..4032
    "#]],
    )
    .await;
}

#[tokio::test]
async fn nothing_relevant_is_said_plainly() {
    for leg in [Leg::off(), Leg::ready()] {
        check(
            Arc::clone(&leg),
            "Which comet passed Jupiter in 1994?",
            &expect![[r"
            Nothing relevant to this question was found in your documents.
            --- grounded: false
        "]],
        )
        .await;
        let (answer, _) = run(&Extractive::new(leg), "anything", vec![]).await;
        assert!(!answer.unwrap().grounded);
    }
}

#[tokio::test]
async fn a_sentence_is_found_in_a_passage_about_something_else() {
    let content = "The kiln stands behind the shed. Knead the dough for ten minutes. Members may borrow it on Fridays.";
    let mut passage = hit(1, 0, "Opening hours", "prose", content);
    passage.similarity = Some(0.0);
    for leg in [Leg::off(), Leg::ready()] {
        let question = "for how many minutes do I knead the dough?";
        let (answer, _) = run(&Extractive::new(leg), question, vec![passage.clone()]).await;
        let quotes: Vec<String> = answer.unwrap().citations.into_iter().map(|citation| citation.quote).collect();
        assert_eq!(quotes, ["Knead the dough for ten minutes."]);
    }
}

#[tokio::test]
async fn rows_are_quoted_as_text_and_their_heading_counts() {
    let table = "| room | what |\n| gateway | the route with its wire types |\n| docs | a line for those who use it |";
    let passage = hit(1, 0, "Contributing > Add an endpoint", "table", table);
    let (answer, _) = run(&Extractive::new(Leg::off()), "How do I add an endpoint?", vec![passage]).await;
    expect![[r"
        From your documents:

        gateway — the route with its wire types [1]

        docs — a line for those who use it [2]
        --- grounded: true
        [1] file1.md Contributing > Add an endpoint 16..59
        [2] file1.md Contributing > Add an endpoint 60..98
    "]]
    .assert_eq(&print(&answer.unwrap()));
}

/// The quotes of an answer from these passages, `(section, type, content)`, by words alone.
async fn quotes(question: &str, passages: &[(&str, &str, &str)]) -> Vec<String> {
    let passages = (0..).zip(passages).map(|(n, (section, kind, content))| hit(n.into(), n, section, kind, content));
    let (answer, _) = run(&Extractive::new(Leg::off()), question, passages.collect()).await;
    answer.unwrap().citations.into_iter().map(|citation| citation.quote).collect()
}

#[tokio::test]
async fn a_fact_is_quoted_whatever_its_form() {
    let exit_codes =
        "It ends with a code that scripts can rely on.\n\n| exit code | meaning |\n| 0 | done |\n| 130 | interrupted |";
    for (question, passage, quote) in [
        ("What does exit code 130 mean?", ("Exit codes", "table", exit_codes), "| 130 | interrupted |"),
        (
            "How many people live in Berlin?",
            (
                "Cities by people who live there",
                "table",
                "| city | people |\n| Berlin | 3,645,000 |\n| Rome | 2,870,000 |",
            ),
            "| Berlin | 3,645,000 |",
        ),
        (
            "What are the opening hours?",
            ("", "list", "Opening hours:\n- Monday to Friday, 9 to 17"),
            "Opening hours:\n- Monday to Friday, 9 to 17",
        ),
        ("What is step 3?", ("", "prose", "Step 3: press the red button"), "Step 3: press the red button"),
        (
            "Where are the team's keys?",
            ("", "prose", "1Password keeps the team's keys."),
            "1Password keeps the team's keys.",
        ),
        ("phone number", ("Phone numbers", "list", "- Phone: +49 30 1234567\n- Fax: none"), "Phone: +49 30 1234567"),
        (
            "Which file is the default configuration?",
            ("Configuration file", "prose", "Default: `/etc/app/config.toml`."),
            "Default: `/etc/app/config.toml`.",
        ),
        (
            "What is the password of the guest network?",
            ("", "prose", "The password of the guest network is hunter2\n\nIt changes every month."),
            "The password of the guest network is hunter2",
        ),
    ] {
        let found = quotes(question, &[passage]).await;
        assert!(found.iter().any(|found| found == quote), "{question} {found:?}");
    }
}

#[tokio::test]
async fn what_stands_around_text_is_quoted_only_where_nothing_else_is() {
    let contents = ("", "prose", "Firing the kiln … 12");
    let asked = ("", "prose", "How is the kiln fired?");
    let heading = ("", "prose", "Firing the kiln\n\nLoad it first.");
    let head = ("", "table", "| firing | kiln |\n| glaze | slow |\n| clay | fast |");
    let snippet = ("Firing", "code", "kiln --fire\nkiln --cool");
    let text = ("", "prose", "A kiln is fired at night by two members.");
    let question = "firing the kiln";
    assert_eq!(quotes(question, &[contents, asked, heading, head, snippet, text]).await, [text.2]);
    for around in [contents, asked, head, snippet] {
        assert_eq!(quotes(question, &[around]).await.len(), 1, "{around:?}");
    }
}

#[tokio::test]
async fn of_a_long_question_the_part_that_was_searched_for_counts() {
    let question = "comet ".repeat(1000) + "knead dough ten minutes";
    assert!(quotes(&question, &[("", "prose", "Knead the dough for ten minutes.")]).await.is_empty());
}

#[tokio::test]
async fn a_quote_has_the_page_that_it_begins_on() {
    let content = "Owls hunt at night. They sleep by day, in hollow trees. Owls see well at night.";
    let mut passage = hit(1, 0, "", "prose", content);
    passage.page_number = Some(7);
    passage.page_turns = vec![PageTurn { at: 30, page: 8 }];
    let (answer, _) = run(&Extractive::new(Leg::off()), "owls at night", vec![passage]).await;
    let pages: Vec<_> = answer.unwrap().citations.into_iter().map(|citation| citation.page_number).collect();
    assert_eq!(pages, [Some(7), Some(8)]);
}

#[tokio::test]
async fn scripts_without_spaces_have_words_and_sentences() {
    let chinese = "所有权是一组规则，决定程序如何管理内存。今天天气很好。每个值都有一个所有者！";
    let japanese = "所有権はメモリを管理する規則です。今日は天気がいいです。";
    let thai = "การจัดการหน่วยความจำใช้กฎความเป็นเจ้าของ";
    let passages: Vec<Hit> =
        (0..).zip([chinese, japanese, thai]).map(|(n, text)| hit(1, n, "", "prose", text)).collect();
    for (question, quote) in [
        ("什么是所有权？", "所有权是一组规则，决定程序如何管理内存。"),
        ("所有権の規則とは？", "所有権はメモリを管理する規則です。"),
        ("การจัดการหน่วยความจำ", thai),
    ] {
        let (answer, _) = run(&Extractive::new(Leg::off()), question, passages.clone()).await;
        let answer = answer.unwrap();
        let quotes: Vec<&str> = answer.citations.iter().map(|citation| citation.quote.as_str()).collect();
        assert_eq!(quotes, [quote], "{question}");
    }
    let (answer, _) = run(&Extractive::new(Leg::off()), "蒙古的首都在哪里？", passages).await;
    assert!(!answer.unwrap().grounded);
}

#[tokio::test]
async fn an_overlapping_passage_is_not_quoted_twice() {
    let text = "The kiln is fired at 1200 degrees. Glaze is applied before the kiln is loaded.";
    let mut overlap = hit(1, 1, "", "prose", &format!("{text} Cool it slowly."));
    overlap.start = 0;
    let hits = vec![hit(1, 0, "", "prose", text), overlap];
    let (answer, _) = run(&Extractive::new(Leg::off()), "at how many degrees is the kiln fired", hits).await;
    assert_eq!(answer.unwrap().text.matches("1200").count(), 1);
}

fn of_intent(intent: Intent, query: &str, hits: Vec<Hit>) -> Question {
    Question { query: query.to_owned(), hits, intent, ..Question::default() }
}

#[tokio::test]
async fn small_talk_is_answered_without_documents() {
    for (said, answer) in
        [("hello!", "Hello! "), ("Thank you", "You are welcome."), ("lovely weather", "I answer questions")]
    {
        let (small, _) = ask(&Extractive::new(Leg::ready()), of_intent(Intent::ChitChat, said, passages())).await;
        let small = small.unwrap();
        assert!(small.text.starts_with(answer), "{}", small.text);
        assert!(!small.grounded && small.citations.is_empty());
    }
}

#[tokio::test]
async fn a_question_that_leans_on_others_is_answered_as_it_stands_alone() {
    for (standalone, quoted) in [(None, 0), (Some("And when? (owner value dropped)".to_owned()), 2)] {
        let question = Question { query: "And when?".to_owned(), standalone, hits: passages(), ..Question::default() };
        let (answer, _) = ask(&Extractive::new(Leg::off()), question).await;
        assert_eq!(answer.unwrap().citations.len(), quoted);
    }
}

#[tokio::test]
async fn both_sides_of_a_comparison_are_quoted() {
    let mut hits: Vec<Hit> = (0..8)
        .map(|n| {
            hit(1, n, "", "prose", &format!("The stack holds value number {n} of a known size, says page {n}{n}."))
        })
        .collect();
    hits.push(hit(2, 8, "", "prose", "The heap is searched for room."));
    for intent in [Intent::Lookup, Intent::Comparison] {
        let question = of_intent(intent, "Known size of the stack value number vs. the heap", hits.clone());
        let (answer, _) = ask(&Extractive::new(Leg::off()), question).await;
        let documents: std::collections::BTreeSet<_> =
            answer.unwrap().citations.into_iter().map(|citation| citation.filename).collect();
        assert_eq!(documents.len() == 2, intent == Intent::Comparison, "{documents:?}");
    }
}

#[tokio::test]
async fn a_document_is_summarized_by_its_parts() {
    let mut index = MemoryIndex { hits: passages(), ..MemoryIndex::default() };
    index.hits.push(hit(
        1,
        2,
        "Understanding Ownership > Move",
        "prose",
        "A value has one owner, and moves to the next one.",
    ));
    let answerer = Extractive::new(Leg::off()).reading(Arc::new(index));
    let (answer, _) = ask(&answerer, of_intent(Intent::Summary, "Summarize file1.md", passages())).await;
    expect![[r"
        How the parts of file1.md begin:

        - What Is Ownership?: Ownership is a set of rules that govern how a Rust program manages memory. [1]
        - Ownership Rules: First, let’s take a look at the ownership rules. [2]
        - Move: A value has one owner, and moves to the next one. [3]
        --- grounded: true
        [1] file1.md Understanding Ownership > What Is Ownership? 0..74
        [2] file1.md Understanding Ownership > Ownership Rules 1000..1050
        [3] file1.md Understanding Ownership > Move 2000..2049
    "]]
    .assert_eq(&print(&answer.unwrap()));
}

#[tokio::test]
async fn what_the_search_does_not_take_for_relevant_vouches_for_nothing() {
    let mut passage = hit(1, 0, "Memory", "prose", "The owner is dropped. Ownership governs how memory is used.");
    for relevant in [true, false] {
        passage.relevant = relevant;
        let (answer, _) =
            run(&Extractive::new(Leg::off()), "how does ownership govern memory for an owner", vec![passage.clone()])
                .await;
        let text = answer.unwrap().text;
        assert!(text.contains("Ownership governs"), "{text}");
        assert_eq!(text.contains("is dropped"), relevant, "{text}");
    }
}

#[tokio::test]
async fn a_passage_that_is_not_where_it_says_is_left_out() {
    let mut hits = passages();
    hits[0].end += 1;
    hits[1].start = u64::MAX;
    let (answer, _) = run(&Extractive::new(Leg::off()), "What are the ownership rules in Rust?", hits.clone()).await;
    let answer = answer.unwrap();
    assert!(answer.notices[0].starts_with("passages left out: 2"), "{:?}", answer.notices);
    assert_quotes_stand_in_their_passages(&answer, &hits[2..]);
}

proptest! {
    #[test]
    fn quotes_are_always_where_they_say(
        contents in prop::collection::vec("((ownership|rules|of |memory|[a-z]{1,9}|é|😀|[.!?]|\\n|- |\\||```|\\[1\\]) ?){0,60}", 0..6),
        query in "(ownership|rules|memory|[a-z]{1,5}| ){0,8}",
        ready: bool,
    ) {
        let kinds = ["prose", "code", "table", "list"];
        let hits: Vec<Hit> = (0..)
            .zip(&contents)
            .map(|(n, content)| hit(u128::from(n % 3), n, "Memory", kinds[n as usize % 4], content))
            .collect();
        let leg = if ready { Leg::ready() } else { Leg::off() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (answer, shown) = runtime.block_on(run(&Extractive::new(leg), &query, hits.clone()));
        let answer = answer.unwrap();
        prop_assert_eq!(shown.concat(), answer.text.as_str());
        prop_assert_eq!(answer.grounded, !answer.citations.is_empty());
        prop_assert!(answer.citations.len() <= 5);
        assert_quotes_stand_in_their_passages(&answer, &hits);
    }
}
