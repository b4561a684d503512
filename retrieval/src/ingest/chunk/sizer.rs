//! How many tokens a text has: by the model's own tokenizer where that is there and the text is not too long for it,
//! else by an estimate that is calibrated against the tokenizer on samples of the text.

use std::sync::Arc;

use lmao_ports::{Embedder, TokenSpan};

use super::Budget;
use crate::text::TextDocument;

/// Texts longer than this are estimated: tokenizers read about 1 MB a second.
const EXACT_BYTES: usize = 1024 * 1024;
/// Samples that the estimate is calibrated on, and their length.
const SAMPLES: usize = 16;
const SAMPLE_BYTES: usize = 4096;
/// What is added to a calibrated estimate, in percent.
const MARGIN_PERCENT: usize = 10;

/// Counts tokens under a budget.
#[derive(Debug)]
pub(in crate::ingest) struct Sizer {
    model: Option<Arc<dyn Embedder>>,
    method: Method,
    /// In units of the method.
    budget: Budget,
    /// In tokens of the model.
    exact: Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Exact,
    Estimate,
}

impl Sizer {
    /// For this document and the model that will read its passages; `reads` is how many tokens of content that model
    /// takes. Calls the tokenizer on samples, so it may take a few milliseconds.
    pub(in crate::ingest) fn new(document: &TextDocument, model: Option<Arc<dyn Embedder>>, reads: usize) -> Self {
        let exact = Budget::for_model(reads);
        match &model {
            Some(_) if document.text.len() <= EXACT_BYTES => {
                Self { model, method: Method::Exact, budget: exact, exact }
            }
            Some(embedder) => {
                let percent = calibrate(&document.text, embedder.as_ref()) + MARGIN_PERCENT;
                let scaled = |tokens: usize| (tokens * 100 / percent).max(8);
                let budget = Budget { target: scaled(exact.target), max: scaled(exact.max) };
                Self { model, method: Method::Estimate, budget, exact }
            }
            None => Self { model, method: Method::Estimate, budget: exact, exact },
        }
    }

    /// In the units that [`Sizer::tokens`] counts.
    pub(super) fn budget(&self) -> Budget {
        self.budget
    }

    /// The tokens of a text, or units that stand for them.
    pub(super) fn tokens(&self, text: &str) -> Vec<TokenSpan> {
        match (&self.model, self.method) {
            (Some(model), Method::Exact) => model.tokens(text),
            // An estimate near the limit is checked, so that nothing longer than the model reads gets through.
            (Some(model), Method::Estimate) => {
                let units = units(text);
                let (count, max) = (units.len(), self.budget.max);
                if count > max || count * 10 < max * 7 {
                    return units;
                }
                let tokens = model.tokens(text);
                if tokens.len() > self.exact.max { tokens } else { units }
            }
            (None, _) => units(text),
        }
    }

    /// Whether a text is short enough for one passage.
    pub(super) fn fits(&self, text: &str) -> bool {
        self.tokens(text).len() < self.budget.max
    }
}

/// Tokens for each hundred units, on samples spread over the text; at least 100, so that a budget in units is never
/// greater than one in tokens.
fn calibrate(text: &str, model: &dyn Embedder) -> usize {
    let (mut estimated, mut exact) = (0, 0);
    for sample in 0..SAMPLES {
        let start = text.floor_char_boundary(text.len() / SAMPLES * sample);
        let end = text.floor_char_boundary((start + SAMPLE_BYTES).min(text.len()));
        estimated += units(&text[start..end]).len();
        exact += model.tokens(&text[start..end]).len();
    }
    (exact * 100).div_ceil(estimated.max(1)).clamp(100, 800)
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
