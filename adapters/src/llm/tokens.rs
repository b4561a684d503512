//! Counting a language model's tokens: by its own tokenizer where that is known from its name or from a file, else by
//! estimate.

use std::path::Path;

use lmao_ports::{USUAL_CONTEXT, estimated_tokens};
use tiktoken_rs::{
    bpe_for_tokenizer,
    model::get_context_size,
    tokenizer::{Tokenizer as Vocabulary, get_tokenizer},
};
use tokenizers::Tokenizer;

use super::Error;

/// Bytes that are counted at a time: tokenizers take more than proportional time for one word without an end, and look back
/// over white space without limit.
const PIECE: usize = 4096;

/// Counts tokens.
#[derive(Debug)]
pub(super) enum Tokens {
    /// By a vocabulary of OpenAI, which this program carries and unpacks when it first counts.
    Known(Vocabulary),
    /// By a `tokenizer.json`.
    File(Box<Tokenizer>),
    /// By estimate.
    Estimated,
}

impl Tokens {
    /// For a model of this name, whoever serves it: `openai/gpt-4o` too.
    pub(super) fn of_model(model: &str) -> Self {
        get_tokenizer(&name_of(model)).map_or(Self::Estimated, Self::Known)
    }

    /// By the `tokenizer.json` at this path.
    pub(super) fn of_file(path: &Path) -> Result<Self, Error> {
        let wrong = |source| Error::Tokenizer { path: path.to_owned(), source };
        let mut tokenizer = Tokenizer::from_file(path).map_err(wrong)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(wrong)?;
        Ok(Self::File(Box::new(tokenizer)))
    }

    /// Tokens of a text, special ones excluded.
    pub(super) fn count(&self, text: &str) -> usize {
        pieces(text).map(|piece| self.count_piece(piece)).sum()
    }

    fn count_piece(&self, text: &str) -> usize {
        let counted = match self {
            Self::Known(vocabulary) => bpe_for_tokenizer(*vocabulary).ok().map(|known| known.count_ordinary(text)),
            Self::File(tokenizer) => tokenizer.encode_fast(text, false).ok().map(|encoded| encoded.len()),
            Self::Estimated => None,
        };
        counted.unwrap_or_else(|| estimated_tokens(text))
    }
}

/// Tokens of a completion by the model of this name.
pub(super) fn context_of(model: &str) -> usize {
    get_context_size(&name_of(model)).unwrap_or(USUAL_CONTEXT)
}

fn name_of(model: &str) -> String {
    model.rsplit('/').next().unwrap_or(model).to_lowercase()
}

/// A text in pieces, parted at line breaks or spaces where there are any.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let limit = rest.floor_char_boundary(PIECE);
        let seam = || rest[..limit].rfind('\n').or_else(|| rest[..limit].rfind(' ')).filter(|at| *at > 0);
        let end = if limit == rest.len() { limit } else { seam().unwrap_or(limit) };
        let (piece, more) = rest.split_at(end);
        rest = more;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROSE: &str = "Ownership is a set of rules that govern how a Rust program manages memory. ";
    const CODE: &str = "fn main() {\n    let s1 = String::from(\"hello\");\n    println!(\"{s1}\"); // 1994\n}\n";
    const GERMAN: &str = "Der Brennofen wird nachts von zwei Mitgliedern des Vereins geheizt, größere Stücke zuerst. ";
    const CHINESE: &str = "所有权是一组规则，决定程序如何管理内存。";

    #[test]
    fn a_model_is_known_by_its_name() {
        for (model, known) in [
            ("gpt-4o-mini", true),
            ("openai/gpt-4o", true),
            ("GPT-4", true),
            ("gpt-oss-20b", true),
            ("qwen2.5:7b", false),
            ("", false),
        ] {
            assert_eq!(matches!(Tokens::of_model(model), Tokens::Known(_)), known, "{model}");
        }
        assert_eq!(["gpt-4", "openai/gpt-4o", "qwen2.5:7b"].map(context_of), [8192, 128_000, USUAL_CONTEXT]);
        // As OpenAI's own tokenizer counts them.
        assert_eq!(Tokens::of_model("gpt-4").count("tiktoken is great!"), 6);
        assert_eq!(Tokens::of_model("gpt-4o").count("お誕生日おめでとう"), 8);
    }

    #[test]
    fn an_estimate_is_seldom_less_and_never_much_more() {
        for model in ["gpt-4", "gpt-4o"] {
            let known = Tokens::of_model(model);
            for text in [PROSE, CODE, GERMAN, CHINESE] {
                let (counted, estimated) = (known.count(text), Tokens::Estimated.count(text));
                assert!((counted..6 * counted).contains(&estimated), "{model}: {estimated} for {counted} of {text}");
            }
        }
    }

    #[test]
    fn long_texts_are_counted_in_pieces() {
        let known = Tokens::of_model("gpt-4o");
        for text in [PROSE, CODE, CHINESE] {
            let (one, many) = (known.count(text) as f64, known.count(&text.repeat(1000)) as f64 / 1000.0);
            assert!((many / one - 1.0).abs() < 0.1, "{one} {many}");
        }
        for text in [" ".repeat(300_000), "x".repeat(300_000), "\n".repeat(300_000), "é".repeat(100_000)] {
            assert_eq!(pieces(&text).collect::<String>(), text);
            assert!(known.count(&text) > 0);
        }
        assert_eq!(known.count(""), 0);
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        for content in [None, Some("{}"), Some("no JSON")] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = Tokens::of_file(&path).unwrap_err().to_string();
            assert!(error.contains("llm.tokenizer") && error.contains("tokenizer.json"), "{error}");
        }
    }

    #[test]
    fn a_file_counts_as_it_tokenizes_without_its_limits() {
        let Some(shared) = std::env::var_os("LMAO_TEST_SHARED") else {
            println!("left out: a_file_counts_as_it_tokenizes_without_its_limits: LMAO_TEST_SHARED is not set");
            return;
        };
        let tokens = Tokens::of_file(&Path::new(&shared).join("models/all-mpnet-base-v2-w8/tokenizer.json")).unwrap();
        assert_eq!(tokens.count("the kiln"), 3);
        assert_eq!(tokens.count(&"the kiln ".repeat(3000)), 9000);
    }
}
