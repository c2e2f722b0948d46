//! Makes file names from clients safe to store, to print and to use in an object's key.

use crate::unicode::is_deceptive;

/// Name of a file without a usable name.
pub(super) const UNNAMED: &str = "upload";
/// Longest name, in bytes. Leaves room for an id and a prefix in a key of 1,024 bytes, and in the 255 bytes of file
/// systems.
const MAX_BYTES: usize = 128;
/// Longest extension with its dot, in bytes.
const MAX_EXTENSION: usize = 9;

/// Returns the last segment of `raw` (after a slash or backslash), without control and bidirectional characters,
/// leading dots and surrounding white space, cut to 128 bytes; `upload` if nothing is left.
pub(super) fn safe_file_name(raw: &str) -> String {
    let last = raw.rsplit(['/', '\\']).next().unwrap_or_default();
    let visible: String = last.chars().filter(|c| !c.is_control() && !is_deceptive(*c)).collect();
    let trimmed = visible.trim_start_matches(|c: char| c == '.' || c.is_whitespace());
    let trimmed = trimmed.trim_end();
    // A name that is cut keeps its extension.
    let (stem, extension) = match trimmed.rfind('.') {
        Some(dot) if trimmed.len() - dot <= MAX_EXTENSION => trimmed.split_at(dot),
        _ => (trimmed, ""),
    };
    let kept = &stem[..stem.floor_char_boundary(MAX_BYTES - extension.len())];
    match kept.trim_end() {
        "" => UNNAMED.to_owned(),
        kept => format!("{kept}{extension}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn folders_and_leading_dots_are_removed() {
        for (raw, safe) in [
            ("../../etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("C:\\Users\\Ada\\photo.jpg", "photo.jpg"),
            ("..", "upload"),
            ("a/..", "upload"),
            (".htaccess", "htaccess"),
            (". .x", "x"),
            ("", "upload"),
            ("a\r\nb\0.jpg", "ab.jpg"),
            ("日本語 写真.jpg", "日本語 写真.jpg"),
            ("gpj.\u{202E}exe", "gpj.exe"),
        ] {
            assert_eq!(safe_file_name(raw), safe, "{raw:?}");
        }
    }

    /// The characters with the property `Bidi_Control` of Unicode 17, and the separators of lines and paragraphs.
    #[test]
    fn no_character_changes_how_a_name_is_read() {
        let controls =
            "\u{61C}\u{200E}\u{200F}\u{202A}\u{202B}\u{202C}\u{202D}\u{202E}\u{2066}\u{2067}\u{2068}\u{2069}";
        for c in controls.chars().chain(['\u{2028}', '\u{2029}', '\u{7F}', '\u{85}', '\u{1B}']) {
            assert_eq!(safe_file_name(&format!("gpj{c}exe.png")), "gpjexe.png", "{c:?}");
        }
    }

    #[test]
    fn a_name_that_is_cut_keeps_its_extension() {
        assert_eq!(safe_file_name(&format!("{}.jpeg", "a".repeat(200))), format!("{}.jpeg", "a".repeat(123)));
        assert_eq!(safe_file_name(&format!("{}é.jpg", "a".repeat(123))), format!("{}.jpg", "a".repeat(123)));
        // What is too long to be an extension is a part of the name.
        assert_eq!(safe_file_name(&format!("{}.{}", "a".repeat(120), "b".repeat(9))).len(), 128);
    }

    proptest! {
        #[test]
        fn any_name_is_one_safe_segment(raw in "\\PC{0,300}|[./\\\\\\r\\n\\x00a-cé😀 ]{0,200}") {
            let name = safe_file_name(&raw);
            prop_assert!(!name.is_empty() && name.len() <= MAX_BYTES);
            prop_assert!(!name.starts_with('.') && name != "..");
            let has_bad = name.chars().any(|c| c == '/' || c == '\\' || c.is_control() || is_deceptive(c));
            prop_assert!(!has_bad);
            prop_assert_eq!(safe_file_name(&name), name.clone(), "a safe name is unchanged");
        }
    }
}
