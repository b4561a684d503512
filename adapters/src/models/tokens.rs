//! Counting tokens: where each token of a text of any length begins and ends.

mod words;

use lmao_ports::TokenSpan;
use tokenizers::Tokenizer;

use words::Memories;

/// Bytes that are tokenized at a time. Tokenizers keep several tables over their input; small pieces stay in the CPU's cache,
/// and the cost stays linear in the text.
const PIECE: usize = 16 << 10;

/// A word longer than this is cut anywhere: no vocabulary knows it.
const LONGEST_WORD: usize = 16 << 10;

/// The model's tokenizer without its limits: nothing is truncated, nothing padded.
#[derive(Debug)]
pub(super) struct TokenCounter {
    tokenizer: Tokenizer,
    /// Of words, where the tokenizer looks at nothing else.
    memories: Option<Memories>,
}

impl TokenCounter {
    pub(super) fn new(mut tokenizer: Tokenizer) -> Result<Self, tokenizers::Error> {
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        let memories = words::are_parted_first(&tokenizer).then(Memories::default);
        Ok(Self { tokenizer, memories })
    }

    /// Byte spans of the tokens of `text`, in order, special tokens excluded. A special token that stands in the text may be
    /// counted as its words and signs, which are more.
    pub(super) fn spans(&self, text: &str) -> Vec<TokenSpan> {
        match &self.memories {
            Some(memories) => memories.with(|memory| {
                Self::by_pieces(text, |piece, start, out| memory.spans(piece, start, |new| self.encode(new), out))
            }),
            None => Self::by_pieces(text, |piece, start, out| {
                let token = |(from, to): (usize, usize)| TokenSpan { start: start + from, end: start + to };
                out.extend(self.encode(piece)?.into_iter().filter(|(from, to)| from < to).map(token));
                Ok(())
            }),
        }
    }

    fn encode(&self, text: &str) -> Result<Vec<(usize, usize)>, tokenizers::Error> {
        self.tokenizer.encode(text, false).map(|encoding| encoding.get_offsets().to_vec())
    }

    /// The tokens that `add` adds for each piece of a text.
    fn by_pieces(
        text: &str,
        mut add: impl FnMut(&str, usize, &mut Vec<TokenSpan>) -> Result<(), tokenizers::Error>,
    ) -> Vec<TokenSpan> {
        let mut spans = Vec::with_capacity(text.len() / 4);
        for (start, piece) in pieces(text) {
            // No known tokenizer fails on a string. Words are the next best unit.
            if let Err(error) = add(piece, start, &mut spans) {
                tracing::warn!(%error, "a text cannot be tokenized; counting its words");
                spans.extend(piece.split_ascii_whitespace().map(|word| {
                    let from = start + (word.as_ptr() as usize - piece.as_ptr() as usize);
                    TokenSpan { start: from, end: from + word.len() }
                }));
            }
        }
        spans
    }
}

/// Cuts a text into pieces of about [`PIECE`] bytes, each with its offset; at white space, which no token spans.
fn pieces(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &text[start..];
        if rest.is_empty() {
            return None;
        }
        let length = piece_length(rest);
        let piece = (start, &rest[..length]);
        start += length;
        Some(piece)
    })
}

fn piece_length(rest: &str) -> usize {
    if rest.len() <= PIECE {
        return rest.len();
    }
    let first = rest.floor_char_boundary(PIECE);
    let limit = rest.floor_char_boundary(first + LONGEST_WORD);
    rest[first..limit].find(char::is_whitespace).map_or(limit, |place| first + place)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::{prelude::*, test_runner::TestRunner};

    use super::*;

    /// A tokenizer of the BERT family with few words.
    fn small() -> TokenCounter {
        let mut words: Vec<String> =
            ["[UNK]", "the", "##ing", "cut", "write", "日", "é", "##cut", "(", ")", "_"].map(str::to_owned).into();
        words.extend(('a'..='z').filter(|c| *c != 'q').flat_map(|c| [c.to_string(), format!("##{c}")]));
        let vocabulary: serde_json::Map<_, _> = words.into_iter().zip((0..).map(serde_json::Value::from)).collect();
        let tokenizer = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "post_processor": null, "decoder": null,
            "added_tokens": [{
                "id": 0, "content": "[UNK]", "special": true, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false,
            }],
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                "lowercase": true,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 20, "vocab": vocabulary,
            },
        });
        TokenCounter::new(tokenizer.to_string().parse().unwrap()).unwrap()
    }

    /// Whether a counter finds just what its tokenizer does.
    fn check(counter: &TokenCounter, text: &str) {
        assert!(counter.memories.is_some());
        let by_tokenizer = TokenCounter { tokenizer: counter.tokenizer.clone(), memories: None };
        // The second time every word is known.
        for _ in 0..2 {
            assert_eq!(counter.spans(text), by_tokenizer.spans(text), "{text:?}");
        }
    }

    /// Texts of what parts words, joins them or is left out.
    fn texts() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => "[a-zA-Z0-9]{1,8}",
            2 => "[ \n\t\r]{1,3}",
            2 => "[!-/:-;=?-@\\\\^-`{-~]{1,2}",
            2 => proptest::sample::select(vec![
                "the", "Cutting", "WRITE", "é", "e\u{301}", "\u{301}", "İ", "ß", "ς", "日本", "カ゛", "각", "각", "\u{a0}", "\u{85}",
                "\u{b}", "\u{7f}", "\0", "\u{200b}", "\u{feff}", "\u{fffd}", "\u{2028}", "—", "“", "👩‍🚀", "≮", "ﬁ", "½", "q",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            ]).prop_map(str::to_owned),
            1 => any::<char>().prop_filter("may make a special token", |c| !"<>[]".contains(*c)).prop_map(String::from),
        ];
        proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn words_are_counted_as_the_tokenizer_does(texts in proptest::collection::vec(texts(), 1..4)) {
            let counter = small();
            texts.iter().for_each(|text| check(&counter, text));
        }
    }

    #[test]
    fn a_real_vocabulary_is_counted_as_the_tokenizer_does() {
        let Some(shared) = std::env::var_os("LMAO_TEST_SHARED").map(PathBuf::from) else {
            println!("left out: a_real_vocabulary_is_counted_as_the_tokenizer_does: LMAO_TEST_SHARED is not set");
            return;
        };
        let file = shared.join("models/all-mpnet-base-v2-w8/tokenizer.json");
        let counter = TokenCounter::new(Tokenizer::from_file(file).unwrap()).unwrap();
        for collection in ["cranfield", "cosqa"] {
            let corpus = std::fs::read_to_string(shared.join("eval").join(collection).join("corpus.jsonl")).unwrap();
            check(&counter, &corpus.replace(['<', '['], "("));
        }
        let config = ProptestConfig::with_cases(2000);
        TestRunner::new(config)
            .run(&texts(), |text| {
                check(&counter, &text);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn special_tokens_in_a_text_are_words_and_signs() {
        let text = "a [UNK] b";
        let spans = small().spans(text);
        let found: Vec<_> = spans.iter().map(|span| &text[span.start..span.end]).collect();
        assert_eq!(found, ["a", "[", "U", "N", "K", "]", "b"]);
    }

    #[test]
    fn words_without_end_take_little_memory() {
        let counter = small();
        for round in 0..40 {
            let words: Vec<_> = (0..5000).map(|n| format!("{round}x{n}{}", "a".repeat(40))).collect();
            assert!(counter.spans(&words.join(" ")).len() >= 5000);
        }
        counter.memories.unwrap().with(|memory| assert!(memory.bytes() <= words::MEMORY_BYTES * 5 / 4));
    }

    #[test]
    fn pieces_join_to_the_text_and_cut_at_white_space() {
        let words = "wörd ".repeat(PIECE);
        let one_word = "é".repeat(PIECE * 3);
        for text in [words.as_str(), one_word.as_str(), "", "x"] {
            let found: Vec<_> = pieces(text).collect();
            assert_eq!(found.iter().map(|(_, piece)| *piece).collect::<String>(), text);
            for (start, piece) in &found {
                assert_eq!(&text[*start..start + piece.len()], *piece);
                assert!(piece.len() <= PIECE + LONGEST_WORD);
            }
        }
        assert!(pieces(&words).skip(1).all(|(_, piece)| piece.starts_with(' ')));
    }
}
