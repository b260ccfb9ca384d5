//! Hexadecimal digits: written for every request and every event, where `{:032x}` shows in profiles.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Returns `bytes` as lower-case digits, two for each.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    let mut text = String::with_capacity(2 * bytes.as_ref().len());
    push_hex(&mut text, bytes);
    text
}

/// Appends what [`hex`] returns.
pub fn push_hex(text: &mut String, bytes: impl AsRef<[u8]>) {
    for byte in bytes.as_ref() {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for number in [0, 1, 0xabc, u128::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(hex(number.to_be_bytes()), format!("{number:032x}"));
        }
    }
}
