//! Intent: what kind of question it is, by its words.
//!
//! Rules, not a model: they cost nothing, can be read, and are wrong in ways that can be seen. What follows from it is mild on
//! purpose: small talk is not embedded, and questions about code listen to the code model first.

use lmao_ports::Intent;

use super::{is_identifier, words};

/// Words of small talk; a text of nothing else is.
const SMALL_TALK: &str = "hi hello hey hallo greetings good morning afternoon evening night day thanks thank you thx ty cheers \
    bye goodbye see ya later ok okay cool great nice perfect awesome how are there is it going much very so a lot for your \
    help what's whats up who sup yo welcome please sorry";
/// Of these one must be in it: "how are you there" alone greets nobody.
const TALKING: &str = "hi hello hey hallo greetings morning afternoon evening thanks thank thx ty cheers bye goodbye ok okay \
    cool great nice perfect awesome what's whats sup yo welcome sorry";
/// Words of small talk at most.
const MAX_TALK: usize = 7;

/// How two things are set against each other.
const COMPARING: [&str; 12] = [
    "difference between",
    "differences between",
    "different from",
    "differ from",
    "differs from",
    "compare",
    "compared",
    "comparison",
    " vs ",
    " vs. ",
    "versus",
    "better than",
];

/// What asks for the whole of something.
const SUMMING: [&str; 13] = [
    "summarize",
    "summarise",
    "summary of",
    "overview of",
    "tl;dr",
    "tldr",
    "key points",
    "main points",
    "main ideas",
    "main findings",
    "in a nutshell",
    "gist of",
    "document about",
];

/// Names of file types that hold text to read.
const FILES: [&str; 17] = [
    "pdf", "docx", "doc", "md", "txt", "html", "htm", "pptx", "ppt", "xlsx", "csv", "epub", "odt", "rtf", "eml", "tsv",
    "json",
];

/// Words before a document's name.
const DOCUMENTS: [&str; 6] = ["the document", "the file", "the paper", "the report", "which document", "which file"];

/// Words of those who ask for code. Not those that prose is full of: "class", "object", "table".
const CODE: &str = "python rust java javascript typescript golang c++ c# ruby kotlin php sql regex regexp json yaml numpy \
    pandas dataframe django flask async await mutex struct enum tuple dict dictionary iterator closure lambda decorator \
    subclass stacktrace traceback stdin stdout argparse boolean int integer string strings substring func def fn api sdk \
    unittest pytest npm pip cargo compile compiler segfault datetime unicode utf utf8 hashmap linked";

/// How a way of doing something is asked for.
const DOING: [&str; 10] = [
    "how to",
    "how do i",
    "how do you",
    "how do we",
    "how can i",
    "how can we",
    "how should i",
    "steps to",
    "way to",
    "guide to",
];

/// Of a text.
pub(super) fn intent(text: &str) -> Intent {
    let words: Vec<String> = words(text).collect();
    let among = |list: &str, word: &String| list.split_whitespace().any(|listed| listed == word);
    let spoken = format!(" {} ", text.to_lowercase());
    let says = |forms: &[&str]| forms.iter().any(|form| spoken.contains(form));
    if words.len() <= MAX_TALK
        && words.iter().all(|word| among(SMALL_TALK, word))
        && words.iter().any(|word| among(TALKING, word))
    {
        return Intent::ChitChat;
    }
    if says(&SUMMING) {
        return Intent::Summary;
    }
    if says(&COMPARING) {
        return Intent::Comparison;
    }
    let is_file =
        |word: &String| word.rsplit_once('.').is_some_and(|(name, end)| !name.is_empty() && FILES.contains(&end));
    if words.iter().any(is_file) || says(&DOCUMENTS) {
        return Intent::Document;
    }
    if words.iter().any(|word| among(CODE, word)) || text.split_whitespace().any(is_code) {
        return Intent::Code;
    }
    if says(&DOING) { Intent::HowTo } else { Intent::Lookup }
}

/// Whether a word can only stand in code: a name with its marks, not a number like `B2` or `e.g.`
fn is_code(word: &str) -> bool {
    let marked = ["::", "()", "->", "=>", "{}", "[]", "==", "_"].iter().any(|mark| word.contains(mark));
    let camel = word.chars().zip(word.chars().skip(1)).any(|(a, b)| a.is_lowercase() && b.is_uppercase());
    is_identifier(word) && (marked || camel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: Intent, texts: &[&str]) {
        for text in texts {
            assert_eq!(intent(text), expected, "{text}");
        }
    }

    #[test]
    fn questions_are_told_apart_by_their_words() {
        check(
            Intent::ChitChat,
            &["Hello!", "Hi there, how are you?", "thanks a lot for your help", "ok", "Good morning"],
        );
        check(Intent::Summary, &["Summarize the report", "What is this document about?", "tl;dr of chapter 2"]);
        check(
            Intent::Comparison,
            &["difference between a list and a tuple", "stack vs heap", "How does B differ from A?"],
        );
        check(Intent::Document, &["what does contract-2024.pdf say about notice", "which document mentions penguins?"]);
        check(
            Intent::Code,
            &["python check if file exists", "what does parse_args return", "std::mem::swap", "getUserName"],
        );
        check(Intent::HowTo, &["How do I bake bread?", "way to remove stains"]);
        check(
            Intent::Lookup,
            &[
                "who discovered penicillin",
                "how are you going to pay",
                "vitamin B12",
                "what is hello world",
                "effect of boundary layer transition at mach 2.5",
                "class struggle",
                "good",
                "",
            ],
        );
    }
}
