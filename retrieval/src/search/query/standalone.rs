//! Reformulation: a question that leans on the conversation before it is made to stand alone.
//!
//! Whether it leans is told by its pronouns and by what it leaves out ("what about closures?", "why?"); what it leans on is
//! the salient words of the questions before it, back to the first that stands alone. They are put behind it in brackets,
//! so that both legs see them and the reader can tell them from what was asked. Carrying over terms of the turns before is the
//! plain and strong baseline of conversational search (Dalton, Xiong, Callan: TREC CAsT 2019). Knows English only.

use std::collections::BTreeSet;

use lmao_ports::{ChatMessage, ChatRole};

use super::{super::terms::terms, words};

/// Questions before this one that are looked at.
const MAX_TURNS: usize = 3;
/// Words that are carried over.
const MAX_CARRIED: usize = 8;
/// Bytes of an earlier question that are looked at: what is pasted into it says little of its topic.
const MAX_TURN_BYTES: usize = 1024;
/// Bytes of a word that is carried over; longer runs are no words.
const MAX_WORD_BYTES: usize = 64;

/// Beginnings that take up the question before.
const LEADS: [&str; 17] = [
    "and",
    "or",
    "but",
    "also",
    "then",
    "so",
    "what about",
    "how about",
    "same for",
    "what else",
    "anything else",
    "tell me more",
    "more about",
    "more on",
    "why not",
    "how so",
    "for example",
];

/// Words that stand for something that was named.
const PRONOUNS: [&str; 14] = [
    "it",
    "they",
    "them",
    "he",
    "she",
    "him",
    "this",
    "these",
    "those",
    "itself",
    "themselves",
    "former",
    "latter",
    "theirs",
];

/// Words for something's owner; it is mostly named just before them.
const POSSESSIVES: [&str; 5] = ["its", "their", "his", "her", "hers"];

/// What a pronoun's meaning may follow from within the question itself: so many words of its own before it.
const NAMED: usize = 3;

/// What stands before "that" where it means something, and is not "that which".
const BEFORE_THAT: [&str; 18] = [
    "about", "like", "than", "of", "for", "with", "is", "was", "does", "did", "do", "why", "how", "to", "from", "on",
    "by", "in",
];

/// What stands before "one" where it means something.
const BEFORE_ONE: [&str; 8] = ["which", "other", "this", "that", "first", "second", "last", "next"];

/// What follows "it" where that stands for what comes next: "is it possible to".
const IMPERSONAL: [&str; 14] = [
    "possible",
    "safe",
    "ok",
    "okay",
    "necessary",
    "better",
    "best",
    "good",
    "bad",
    "allowed",
    "common",
    "worth",
    "enough",
    "take",
];

/// `asked` with what it leans on, of the conversation before it, oldest first.
pub(super) fn standalone(asked: &str, conversation: &[ChatMessage]) -> String {
    if conversation.is_empty() || !leans(asked) {
        return asked.to_owned();
    }
    let turns = conversation.iter().rev().filter(|message| message.role == ChatRole::User);
    let turns = turns.map(|message| message.content.trim()).filter(|turn| *turn != asked).take(MAX_TURNS);
    let mut known = terms(asked);
    let mut carried: Vec<&str> = Vec::new();
    for turn in turns {
        let turn = &turn[..turn.floor_char_boundary(MAX_TURN_BYTES)];
        carried.extend(salient(turn, &mut known).take(MAX_CARRIED.saturating_sub(carried.len())));
        if !leans(turn) {
            break;
        }
    }
    if carried.is_empty() { asked.to_owned() } else { format!("{asked} ({})", carried.join(" ")) }
}

/// The words of a question that say what it is about, as they stand there, without those that are known.
fn salient<'a>(text: &'a str, known: &mut BTreeSet<String>) -> impl Iterator<Item = &'a str> {
    let words = text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| {
        let terms = terms(word);
        let new = !terms.is_empty() && word.len() <= MAX_WORD_BYTES && !terms.is_subset(known);
        if new {
            known.extend(terms);
        }
        new
    })
}

/// Whether a question means nothing without those before it.
fn leans(question: &str) -> bool {
    if terms(question).is_empty() {
        return true;
    }
    let words: Vec<String> = words(question).collect();
    let spoken = words.join(" ");
    if LEADS.iter().any(|lead| spoken.strip_prefix(lead).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))) {
        return true;
    }
    // "Is it safe to …" speaks of nothing but what follows.
    let impersonal = |word: &String| IMPERSONAL.contains(&word.as_str());
    if spoken.contains(" to ") && words.windows(2).any(|pair| pair[0] == "it" && impersonal(&pair[1])) {
        return false;
    }
    let mut named = 0;
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |at| words[at].as_str());
        let last = at + 1 == words.len();
        let points = match word.as_str() {
            "that" => at == 0 || (BEFORE_THAT.contains(&before) && (last || named == 0)),
            "one" | "ones" => last || BEFORE_ONE.contains(&before),
            word if POSSESSIVES.contains(&word) => named == 0,
            word => PRONOUNS.contains(&word) && named < NAMED,
        };
        if points {
            return true;
        }
        named += usize::from(!terms(word).is_empty());
    }
    false
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(before: &[&str], asked: &str, expected: &Expect) {
        let said = |role, content: &str| ChatMessage { role, content: content.to_owned() };
        let answered =
            |question: &&str| [said(ChatRole::User, question), said(ChatRole::Assistant, "An answer about zebras.")];
        let conversation: Vec<ChatMessage> = before.iter().flat_map(answered).collect();
        expected.assert_eq(&standalone(asked, &conversation));
    }

    const BORROW: &str = "What does the borrow checker compare?";

    #[test]
    fn pronouns_take_the_topic_of_the_question_before() {
        check(&[BORROW], "Why is it so slow?", &expect!["Why is it so slow? (borrow checker compare)"]);
        check(&[BORROW], "Where is that documented?", &expect!["Where is that documented? (borrow checker compare)"]);
        check(&[BORROW], "Who wrote this?", &expect!["Who wrote this? (borrow checker compare)"]);
        check(&[BORROW], "What are its limits?", &expect!["What are its limits? (borrow checker compare)"]);
        check(&["How do I call std::mem::swap?"], "Is it safe?", &expect!["Is it safe? (call std::mem::swap)"]);
    }

    #[test]
    fn what_is_left_out_is_taken_from_the_question_before() {
        check(&[BORROW], "What about closures?", &expect!["What about closures? (borrow checker compare)"]);
        check(&[BORROW], "And in unsafe code?", &expect!["And in unsafe code? (borrow checker compare)"]);
        check(&[BORROW], "Why?", &expect!["Why? (borrow checker compare)"]);
        check(&[BORROW], "Tell me more", &expect!["Tell me more (borrow checker compare)"]);
    }

    #[test]
    fn it_goes_back_to_a_question_that_stands_alone_and_not_further() {
        let before = ["Who are penguins?", BORROW, "What about closures?"];
        check(&before, "Why?", &expect!["Why? (closures borrow checker compare)"]);
        check(&[BORROW], BORROW, &expect!["What does the borrow checker compare?"]);
    }

    #[test]
    fn a_question_that_stands_alone_is_left_as_it_is() {
        for asked in [
            "How does the borrow checker do its job?",
            "functions that return a list",
            "Is it possible to index a string?",
            "How do lifetimes work when a struct owns them?",
            "android notifications",
        ] {
            let before = ChatMessage { role: ChatRole::User, content: "Who are penguins?".to_owned() };
            assert_eq!(standalone(asked, &[before]), asked);
        }
        check(&[], "Why is it so slow?", &expect!["Why is it so slow?"]);
    }

    #[test]
    fn what_is_carried_over_is_bounded() {
        let many: String = (0..500).map(|n| format!("word{n} ")).collect();
        let long = standalone("Why?", &[ChatMessage { role: ChatRole::User, content: many }]);
        assert_eq!(long.split_whitespace().count(), 1 + MAX_CARRIED);
        let run = ChatMessage { role: ChatRole::User, content: "x".repeat(10_000) };
        assert_eq!(standalone("Why?", &[run]), "Why?");
    }
}
