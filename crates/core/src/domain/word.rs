//! The form of what callers name: nonces, namespaces, records, keys of calls.

/// The longest word, in characters.
pub const MAX_WORD_LEN: usize = 255;

/// Whether the text is 1 to 255 visible ASCII characters (`!` to `~`).
#[inline]
#[must_use]
pub fn is_word(text: &str) -> bool {
    (1..=MAX_WORD_LEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
