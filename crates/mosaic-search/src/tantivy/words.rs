//! Our words as a tokenizer of tantivy's.

use ::tantivy::Index;
use ::tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer};

use crate::words::indexed_words;

pub(super) const NAME: &str = "mosaic_words";

/// Tells `index` how to cut its texts.
pub(super) fn register(index: &Index) {
    index.tokenizers().register(NAME, TextAnalyzer::from(Words));
}

#[derive(Clone)]
struct Words;

impl Tokenizer for Words {
    type TokenStream<'a> = Stream;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Stream {
        Stream {
            words: indexed_words(text).into_iter(),
            token: Token::default(),
        }
    }
}

/// Words one by one. Offsets are not kept: nothing shows where in a text a word was found.
struct Stream {
    words: std::vec::IntoIter<String>,
    token: Token,
}

impl TokenStream for Stream {
    fn advance(&mut self) -> bool {
        let Some(word) = self.words.next() else { return false };
        self.token.position = self.token.position.wrapping_add(1);
        self.token.text = word;
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}
