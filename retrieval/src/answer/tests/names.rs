//! What an answer by quotes makes of the names in a question.

use std::sync::Arc;

use lmao_events::Answer;
use lmao_ports::Hit;

use super::{Extractive, passages, print, run};
use crate::search::fakes::{Leg, MemoryIndex, hit};

/// Quotes by words alone, of passages in an index that holds these.
async fn answer(question: &str, found: Vec<Hit>, held: Vec<Hit>) -> Answer {
    let index = MemoryIndex { hits: held, ..MemoryIndex::default() };
    run(&Extractive::new(Leg::off()).reading(Arc::new(index)), question, found).await.0.unwrap()
}

#[tokio::test]
async fn a_name_is_known_from_the_first_passage_of_a_quoted_document() {
    let rules = hit(1, 5, "Safety", "prose", "The safety rules of the drill are to wear gloves and goggles.");
    let title = |document| hit(document, 0, "", "heading", "Falcon X2");
    for (held, grounded) in [(title(1), true), (title(2), false)] {
        let question = "What are the safety rules of the Falcon drill?";
        let answer = answer(question, vec![rules.clone()], vec![held, rules.clone()]).await;
        assert_eq!(answer.grounded, grounded, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_name_is_known_from_every_passage_that_was_found() {
    let rules = hit(1, 5, "Safety", "prose", "The safety rules of the drill are to wear gloves and goggles.");
    let mut other = hit(2, 3, "", "prose", "Our drills: Falcon, Osprey.");
    other.relevant = false;
    let question = "What are the safety rules of the Falcon drill?";
    assert!(answer(question, vec![rules.clone(), other], vec![]).await.grounded);
    assert!(!answer(question, vec![rules], vec![]).await.grounded);
}

#[tokio::test]
async fn where_a_name_is_known_it_is_said_which_is_not() {
    let question = "What are the ownership rules of Rust in Haskell or OCaml?";
    let answer = answer(question, passages(), vec![]).await;
    let said =
        "No passage that was found mentions “Haskell” or “OCaml”. From your documents:\n\nOwnership is a set of rules";
    assert!(answer.grounded && answer.text.starts_with(said), "{}", print(&answer));
}

#[tokio::test]
async fn names_that_need_not_be_named_change_nothing() {
    let refunds = hit(1, 0, "", "prose", "Refunds are paid within ten days of a return.");
    for question in [
        "What does the PDF say about refunds?",
        "When are refunds paid? Thanks, Anna",
        "When are refunds paid within ten days?\nError: Gateway Timeout",
    ] {
        let answer = answer(question, vec![refunds.clone()], vec![]).await;
        assert!(answer.text.starts_with("From your documents:"), "{question} {}", answer.text);
    }
}
