//! Errors as they are stored with what failed.

use mosaic_core::Error;

/// Returns the whole story, for whoever looks at dead letters: it is not shown to strangers.
pub(crate) fn describe(error: &Error) -> String {
    let (reason, message, causes) = (error.reason(), error.message(), error.cause_chain());
    match causes.is_empty() {
        true => format!("{reason}: {message}"),
        false => format!("{reason}: {message}: {causes}"),
    }
}

/// Returns the beginning of `text`, at most `max` bytes of it and whole characters.
pub(crate) fn shortened(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(shortened("aüb", 2), "a");
        assert_eq!(shortened("aüb", 3), "aü");
        assert_eq!(shortened("aüb", 9), "aüb");
    }
}
