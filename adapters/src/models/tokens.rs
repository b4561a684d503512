//! Counting tokens: where each token of a text of any length begins and ends.

use lmao_ports::TokenSpan;
use tokenizers::Tokenizer;

/// Bytes that are tokenized at a time. Tokenizers keep several tables over their input; small pieces stay in the CPU's cache,
/// and the cost stays linear in the text.
const PIECE: usize = 16 << 10;

/// A word longer than this is cut anywhere: no vocabulary knows it.
const LONGEST_WORD: usize = 16 << 10;

/// The model's tokenizer without its limits: nothing is truncated, nothing padded.
#[derive(Debug)]
pub(super) struct TokenCounter {
    tokenizer: Tokenizer,
}

impl TokenCounter {
    pub(super) fn new(mut tokenizer: Tokenizer) -> Result<Self, tokenizers::Error> {
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        Ok(Self { tokenizer })
    }

    /// Byte spans of the tokens of `text`, in order, special tokens excluded.
    pub(super) fn spans(&self, text: &str) -> Vec<TokenSpan> {
        let mut spans = Vec::with_capacity(text.len() / 4);
        for (start, piece) in pieces(text) {
            match self.tokenizer.encode(piece, false) {
                Ok(encoding) => spans.extend(
                    encoding
                        .get_offsets()
                        .iter()
                        .filter(|(from, to)| from < to)
                        .map(|(from, to)| TokenSpan { start: start + from, end: start + to }),
                ),
                // No known tokenizer fails on a string. Words are the next best unit.
                Err(error) => {
                    tracing::warn!(%error, "a text cannot be tokenized; counting its words");
                    spans.extend(piece.split_ascii_whitespace().map(|word| {
                        let from = start + (word.as_ptr() as usize - piece.as_ptr() as usize);
                        TokenSpan { start: from, end: from + word.len() }
                    }));
                }
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
    use super::*;

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
