//! Hexadecimal digits: written for every request and every event, where `{:032x}` shows in profiles.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Returns `bytes` as lower-case digits, two for each.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut digits = vec![0; 2 * bytes.len()];
    put_hex(&mut digits, bytes);
    // Digits are text.
    String::from_utf8(digits).unwrap_or_default()
}

/// Writes what [`hex`] returns into the first places of `digits`: for what needs no block of memory.
pub fn put_hex(digits: &mut [u8], bytes: impl AsRef<[u8]>) {
    for (place, byte) in digits.chunks_exact_mut(2).zip(bytes.as_ref()) {
        place.copy_from_slice(&[byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
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
