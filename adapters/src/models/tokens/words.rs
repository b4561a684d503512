//! Counting tokens word by word: how a word is taken apart depends on it alone where white space and signs part words before
//! anything else does, as the tokenizers of the BERT family have it. Most words of a text have been there before, so looking
//! up is most of the work, and a tokenizer sees only what is new.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use lmao_ports::TokenSpan;
use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// What is remembered in one memory at most; then it begins anew.
pub(super) const MEMORY_BYTES: usize = 8 << 20;
/// What a word takes beside its letters and tokens.
const WORD_BYTES: usize = 96;
/// Memories that are kept: as many as texts are usually counted at once.
const MEMORIES: usize = 2;

/// Whether a tokenizer takes each word apart by itself.
pub(super) fn are_parted_first(tokenizer: &Tokenizer) -> bool {
    matches!(tokenizer.get_normalizer(), Some(NormalizerWrapper::BertNormalizer(_)))
        && matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)))
        && matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_))
}

/// Memories, each used by one caller at a time.
#[derive(Debug, Default)]
pub(super) struct Memories(Mutex<Vec<Memory>>);

impl Memories {
    /// Runs `work` with a memory of its own.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        let idle = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = idle().pop().unwrap_or_default();
        let done = work(&mut memory);
        let mut idle = idle();
        if idle.len() < MEMORIES {
            idle.push(memory);
        }
        done
    }
}

/// The words of the last texts with their tokens.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By their number.
    words: HashMap<Box<str>, usize>,
    /// Where the tokens of each word stand.
    tokens: Vec<Range<usize>>,
    /// Byte ranges in the word.
    spans: Vec<Range<u32>>,
    /// Of all words.
    bytes: usize,
    /// A text's words in order, by where they begin; `None` is a sign.
    order: Vec<(usize, Option<usize>)>,
    /// The words that are new in a text, and where each begins and ends there.
    new: String,
    places: Vec<Range<usize>>,
}

impl Memory {
    /// Adds the tokens of a text that begins at `start`, as `encode` finds them; special tokens that stand in the text are words
    /// and signs like others.
    ///
    /// # Errors
    /// Those of `encode`, with which nothing is added. It is given words with white space between them.
    pub(super) fn spans<E>(
        &mut self,
        text: &str,
        start: usize,
        encode: impl FnOnce(&str) -> Result<Vec<(usize, usize)>, E>,
        out: &mut Vec<TokenSpan>,
    ) -> Result<(), E> {
        if self.bytes > MEMORY_BYTES {
            *self = Self::default();
        }
        self.read(text);
        if !self.places.is_empty() {
            match encode(&self.new) {
                Ok(found) => self.learn(&found),
                Err(error) => {
                    *self = Self::default();
                    return Err(error);
                }
            }
        }
        for (at, word) in &self.order {
            let at = start + at;
            match word {
                None => out.push(TokenSpan { start: at, end: at + 1 }),
                Some(word) => out.extend(
                    self.spans[self.tokens[*word].clone()]
                        .iter()
                        .map(|token| TokenSpan { start: at + token.start as usize, end: at + token.end as usize }),
                ),
            }
        }
        Ok(())
    }

    /// Bytes of all words.
    #[cfg(test)]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Numbers the words of a text.
    fn read(&mut self, text: &str) {
        self.order.clear();
        self.new.clear();
        self.places.clear();
        for (at, part) in parts(text) {
            let Part::Word(word) = part else {
                self.order.push((at, None));
                continue;
            };
            let number = self.words.get(word).copied().unwrap_or_else(|| {
                let number = self.tokens.len() + self.places.len();
                let place = self.new.len();
                self.new.push_str(word);
                self.places.push(place..self.new.len());
                self.new.push(' ');
                self.words.insert(word.into(), number);
                number
            });
            self.order.push((at, Some(number)));
        }
    }

    /// Takes in the tokens of the new words.
    fn learn(&mut self, found: &[(usize, usize)]) {
        let mut found = found.iter().filter(|(from, to)| from < to).peekable();
        for place in &self.places {
            let first = self.spans.len();
            while let Some((from, to)) = found.next_if(|(from, _)| *from < place.end) {
                // Words are parts of pieces, which are far shorter than 4 GiB.
                let within = |at: usize| u32::try_from(at.saturating_sub(place.start)).unwrap_or(u32::MAX);
                self.spans.push(within(*from)..within(*to));
            }
            self.tokens.push(first..self.spans.len());
            self.bytes += WORD_BYTES + place.len() + (self.spans.len() - first) * size_of::<Range<u32>>();
        }
    }
}

/// What stands between white space.
enum Part<'a> {
    /// One ASCII sign, which is a token.
    Sign,
    /// Anything else, up to the next sign.
    Word(&'a str),
}

/// The parts of a text and where they begin. Only ASCII parts words here: what else is white space or a sign is up to the tokenizer, as
/// are control characters, which it may leave out and join what they part.
fn parts(text: &str) -> impl Iterator<Item = (usize, Part<'_>)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + bytes[at..].iter().position(|byte| !is_space(*byte))?;
        if bytes[start].is_ascii_punctuation() {
            at = start + 1;
            return Some((start, Part::Sign));
        }
        let ends = |byte: &u8| is_space(*byte) || byte.is_ascii_punctuation();
        at = bytes[start..].iter().position(ends).map_or(bytes.len(), |length| start + length);
        Some((start, Part::Word(&text[start..at])))
    })
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
