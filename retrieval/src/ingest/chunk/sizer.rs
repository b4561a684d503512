//! How many tokens a text has: by the tokenizers of the models that will read it, each text once; by units that stand for
//! tokens as long as no model is there.

use std::sync::Arc;

use lmao_ports::{Embedder, TokenSpan};

use super::Budget;

/// A model that will read passages.
#[derive(Debug, Clone)]
pub(in crate::ingest) struct Reader {
    /// Its tokenizer.
    pub(in crate::ingest) model: Arc<dyn Embedder>,
    /// Tokens of a passage's content that it reads.
    pub(in crate::ingest) reads: usize,
}

/// Counts tokens under a budget.
#[derive(Debug)]
pub(in crate::ingest) struct Sizer {
    general: Option<Reader>,
    domain: Option<Reader>,
    budget: Budget,
}

impl Sizer {
    /// For the models that are there: the general one sizes every passage, and one of code must fit the domain one too. `usual`
    /// is how much a model is taken to read as long as there is none.
    pub(in crate::ingest) fn new(general: Option<Reader>, domain: Option<Reader>, usual: usize) -> Self {
        let budget = Budget::for_model(general.as_ref().map_or(usual, |reader| reader.reads));
        Self { general, domain, budget }
    }

    pub(super) fn budget(&self) -> Budget {
        self.budget
    }

    /// The tokens of a text, or units that stand for them.
    pub(super) fn tokens(&self, text: &str) -> Vec<TokenSpan> {
        self.general.as_ref().map_or_else(|| units(text), |reader| reader.model.tokens(text))
    }

    /// Whether a text is short enough for one passage, whichever model reads it.
    pub(super) fn fits(&self, text: &str) -> bool {
        self.tokens(text).len() <= self.budget.max && self.too_long_for_domain(text).is_none()
    }

    /// The tokens of a text of code as the domain model reads it, and how many it reads, if that is not all of them.
    pub(super) fn too_long_for_domain(&self, text: &str) -> Option<(Vec<TokenSpan>, usize)> {
        // No token is shorter than a byte.
        let reader = self.domain.as_ref().filter(|reader| reader.reads < text.len())?;
        let tokens = reader.model.tokens(text);
        (tokens.len() > reader.reads).then_some((tokens, reader.reads))
    }
}

/// Units that stand for tokens of the usual subword vocabularies: up to six letters of a word, three digits, one
/// ideograph, two letters of other scripts, one sign.
fn units(text: &str) -> Vec<TokenSpan> {
    let mut out: Vec<TokenSpan> = vec![];
    let mut last: Option<(Class, usize)> = None;
    for (at, c) in text.char_indices() {
        let class = Class::of(c);
        let end = at + c.len_utf8();
        last = match (class, last) {
            (Class::Space, _) => None,
            (class, Some((before, length))) if class == before && length < class.length() => {
                if let Some(token) = out.last_mut() {
                    token.end = end;
                }
                Some((class, length + 1))
            }
            _ => {
                out.push(TokenSpan { start: at, end });
                Some((class, 1))
            }
        };
    }
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Latin,
    Digit,
    Letter,
    Sign,
}

impl Class {
    fn of(c: char) -> Self {
        match c {
            c if c.is_whitespace() => Self::Space,
            'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' => Self::Latin,
            c if c.is_numeric() => Self::Digit,
            // Ideographs, kana and hangul have a token each.
            '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}' => {
                Self::Sign
            }
            c if c.is_alphabetic() => Self::Letter,
            _ => Self::Sign,
        }
    }

    /// Characters of one unit.
    const fn length(self) -> usize {
        match self {
            Self::Latin => 6,
            Self::Digit => 3,
            Self::Letter => 2,
            Self::Space | Self::Sign => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_near_tokens() {
        let pieces =
            |text: &'static str| units(text).iter().map(|unit| &text[unit.start..unit.end]).collect::<Vec<_>>();
        assert_eq!(pieces("The tokenization, 12345!"), ["The", "tokeni", "zation", ",", "123", "45", "!"]);
        assert_eq!(pieces("日本 слово"), ["日", "本", "сл", "ов", "о"]);
    }
}
