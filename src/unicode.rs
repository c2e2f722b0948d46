//! Characters that make a printed name look like another.

/// Returns whether a character is a line or paragraph separator, or has the property `Bidi_Control` of Unicode: a name
/// with one looks like another when it is printed.
pub(crate) fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}
