//! Cuts text into the words that an index knows.
//!
//! Letters and digits that stand together are a word, in lower case, full-width forms as plain ones. Chinese, Japanese and Korean are
//! written without spaces, so every character and every pair of neighbours is a word when a text is indexed; a search looks for the
//! pairs only (or for a character that stands alone). So any two characters inside a sentence are found, whatever a dictionary would
//! say of them, and names and new words are found like others. Everything else separates words and means nothing.

/// A longer word is cut: nobody types it, and engines limit their terms.
const WORD_CHARS_MAX: usize = 64;

/// Returns the words under which a text is found, in order.
pub fn indexed_words(text: &str) -> Vec<String> {
    cut(text, true)
}

/// Returns the words that are looked for, each once, in order.
pub fn searched_words(text: &str) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let mut words = cut(text, false);
    words.retain(|word| seen.insert(word.clone()));
    words
}

fn cut(text: &str, with_single: bool) -> Vec<String> {
    let mut words = Vec::new();
    let mut plain = String::new();
    let mut n_plain = 0;
    let mut ideographs: Vec<char> = Vec::new();
    for c in text.chars().map(narrow) {
        let is_cjk = is_cjk(c);
        if !is_cjk {
            flush_ideographs(&mut ideographs, with_single, &mut words);
        }
        if is_cjk || !c.is_alphanumeric() {
            flush_plain(&mut plain, &mut words);
            n_plain = 0;
        }
        if is_cjk {
            ideographs.push(c);
        } else if c.is_alphanumeric() && n_plain < WORD_CHARS_MAX {
            plain.extend(c.to_lowercase());
            n_plain += 1;
        }
    }
    flush_ideographs(&mut ideographs, with_single, &mut words);
    flush_plain(&mut plain, &mut words);
    words
}

fn flush_plain(plain: &mut String, words: &mut Vec<String>) {
    if !plain.is_empty() {
        words.push(std::mem::take(plain));
    }
}

fn flush_ideographs(run: &mut Vec<char>, with_single: bool, words: &mut Vec<String>) {
    for (position, c) in run.iter().enumerate() {
        if with_single || run.len() == 1 {
            words.push(c.to_string());
        }
        if let Some(next) = run.get(position + 1) {
            words.push([*c, *next].iter().collect());
        }
    }
    run.clear();
}

/// Full-width Latin, digits and signs are the plain ones.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        other => other,
    }
}

/// Is it written without spaces between words? Ideographs, kana, hangul.
fn is_cjk(c: char) -> bool {
    matches!(c,
        '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, indexed: &str, searched: &str) {
        assert_eq!(indexed_words(text).join(" "), indexed, "indexed {text:?}");
        assert_eq!(searched_words(text).join(" "), searched, "searched {text:?}");
    }

    #[test]
    fn words_are_what_stands_together() {
        check("Hello, World 42!", "hello world 42", "hello world 42");
        check("Rust2024入门", "rust2024 入 入门 门", "rust2024 入门");
        check("ＧｏＬａｎｇ　１", "golang 1", "golang 1");
        check("ÉCOLE Straße", "école straße", "école straße");
    }

    #[test]
    fn chinese_is_cut_into_characters_and_pairs() {
        check("微服务", "微 微服 服 服务 务", "微服 服务");
        check("云", "云", "云");
        check("好，好", "好 好", "好");
        check("𠮷野家", "𠮷 𠮷野 野 野家 家", "𠮷野 野家");
    }

    #[test]
    fn signs_mean_nothing() {
        check("(a+)+$ %%%% \"b\" -c *d", "a b c d", "a b c d");
        check("!!! ... %%%%\u{0}", "", "");
    }

    #[test]
    fn a_word_without_end_is_cut() {
        assert_eq!(indexed_words(&"x".repeat(10_000)), ["x".repeat(64)]);
    }
}
