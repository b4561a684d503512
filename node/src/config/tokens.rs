//! The size of a language model's context.

use serde::{Deserialize, Serialize};

/// The least: an answer has 1024 tokens, its rules have 512.
const MIN: u32 = 2048;

/// Tokens that one completion may have, read and written together; at least 2048.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Given")]
pub(crate) struct ContextTokens(u32);

impl ContextTokens {
    /// How many.
    pub(crate) const fn get(self) -> usize {
        self.0 as usize
    }
}

/// A file has a number, the environment and the command line have text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Number(u32),
    Text(String),
}

impl TryFrom<Given> for ContextTokens {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        let tokens = match given {
            Given::Number(tokens) => tokens,
            Given::Text(text) => text.trim().parse().map_err(|_| format!("{text:?} is no number of tokens"))?,
        };
        if tokens < MIN {
            return Err(format!("{tokens} tokens leave no room for passages; at least {MIN} do"));
        }
        Ok(Self(tokens))
    }
}
