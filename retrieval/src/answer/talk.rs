//! Talk: what needs no documents, and what means nothing without the conversation before it. Both are told by words alone,
//! before anything is searched or read.

use unicode_segmentation::UnicodeSegmentation;

/// What is said, and what is answered.
const SMALL_TALK: [(&[&str], &str); 4] = [
    (
        &[
            "hello",
            "hello there",
            "hello again",
            "hi",
            "hi there",
            "hey",
            "hey there",
            "good morning",
            "good afternoon",
            "good evening",
            "good day",
            "greetings",
            "how are you",
            "hi how are you",
            "hello how are you",
            "hallo",
            "guten tag",
            "guten morgen",
            "guten abend",
            "moin",
            "servus",
            "bonjour",
            "bonsoir",
            "salut",
            "hola",
            "buenos días",
            "buenas tardes",
            "ciao",
            "buongiorno",
            "olá",
            "你好",
            "こんにちは",
            "привет",
        ],
        "Hello! Ask me something about your documents.",
    ),
    (
        &[
            "thanks",
            "thank you",
            "thanks a lot",
            "thank you very much",
            "many thanks",
            "thx",
            "cheers",
            "great thanks",
            "ok thanks",
            "okay thanks",
            "perfect thanks",
            "thanks that helps",
            "that helps thanks",
            "danke",
            "danke schön",
            "vielen dank",
            "merci",
            "merci beaucoup",
            "gracias",
            "muchas gracias",
            "grazie",
            "obrigado",
            "obrigada",
            "谢谢",
            "ありがとう",
            "спасибо",
        ],
        "You are welcome. Ask on whenever you like.",
    ),
    (
        &[
            "bye",
            "goodbye",
            "good bye",
            "bye bye",
            "see you",
            "see you later",
            "good night",
            "have a nice day",
            "tschüss",
            "auf wiedersehen",
            "au revoir",
            "adiós",
            "arrivederci",
            "再见",
            "さようなら",
        ],
        "Goodbye!",
    ),
    (
        &[
            "who are you",
            "what are you",
            "what can you do",
            "what do you do",
            "how can you help me",
            "can you help me",
            "how do you work",
            "are you a bot",
            "are you an ai",
            "are you human",
        ],
        "I answer questions from the documents that you have uploaded, and name the place that each answer rests on. What is \
         in none of them I do not know.",
    ),
];

/// What is answered to small talk that has no answer of its own.
const ANYTHING: &str = "I answer questions about your documents. Ask me something about them.";

/// Words of small talk at most.
const MAX_WORDS: usize = 6;

/// Words that mean something said before.
const ANAPHORS: [&str; 28] = [
    "it", "its", "itself", "they", "them", "their", "theirs", "he", "him", "his", "she", "her", "hers", "this", "that",
    "these", "those", "former", "latter", "same", "above", "previous", "else", "instead", "there", "then", "one",
    "ones",
];

/// Words that go on from something said before, where a question begins with them.
const GOES_ON: [&str; 9] = ["and", "but", "or", "so", "also", "then", "why", "ok", "und"];

/// Words of a question that is too short to stand alone.
const SHORT: usize = 3;

/// The answer to small talk, such as a greeting or thanks; `None` for whatever might be about documents.
#[must_use]
pub fn small_talk(said: &str) -> Option<&'static str> {
    let words: Vec<String> = said.unicode_words().take(MAX_WORDS + 1).map(str::to_lowercase).collect();
    if words.is_empty() || words.len() > MAX_WORDS {
        return None;
    }
    // Scripts that do not part words are said without spaces.
    let (parted, unparted) = (words.join(" "), words.concat());
    let known = |(said, _): &&(&[&str], &str)| said.contains(&parted.as_str()) || said.contains(&unparted.as_str());
    SMALL_TALK.iter().find(known).map(|(_, answer)| *answer)
}

/// The answer to anything that is taken for small talk.
pub(super) fn small_answer(said: &str) -> &'static str {
    small_talk(said).unwrap_or(ANYTHING)
}

/// Whether a question may mean something that was said before: it is short, goes on, or has words that stand for others. Said
/// too often rather than too seldom: it only costs a look at the conversation.
#[must_use]
pub fn leans_on_conversation(question: &str) -> bool {
    let words: Vec<String> = question.unicode_words().map(str::to_lowercase).collect();
    let leans = |word: &String| ANAPHORS.contains(&word.split('\'').next().unwrap_or(word));
    let goes_on = words.first().is_some_and(|word| GOES_ON.contains(&word.as_str()));
    let about =
        matches!(words.as_slice(), [what, about, ..] if matches!(what.as_str(), "what" | "how") && about == "about");
    words.len() <= SHORT || goes_on || about || words.iter().any(leans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_talk_is_nothing_but_small_talk() {
        for said in
            ["Hello!", "  hi, there ", "Thank you very much.", "GOOD MORNING", "你好！", "Who are you?", "bye :-)"]
        {
            assert!(small_talk(said).is_some(), "{said}");
        }
        for said in
            ["hello world in Rust", "thanks giving dinner", "hi rise buildings", "", "?!", "help", "ciao bella", "42"]
        {
            assert_eq!(small_talk(said), None, "{said}");
        }
    }

    #[test]
    fn questions_that_mean_what_was_said_before() {
        for question in [
            "And in 2015?",
            "What about the second one?",
            "How much does it cost?",
            "why?",
            "Who wrote this?",
            "How long?",
            "What's the maximum size of these files?",
            "How does that's owner change?",
        ] {
            assert!(leans_on_conversation(question), "{question}");
        }
        for question in
            ["Who owns a value, and for how long?", "What are the ownership rules in Rust?", "When is the kiln fired?"]
        {
            assert!(!leans_on_conversation(question), "{question}");
        }
    }
}
