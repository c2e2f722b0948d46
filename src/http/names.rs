//! File names from clients, made safe to keep, to print and to be part of an object's key.

use std::path::Path;

/// Name of a file that came without a usable one.
pub const UNNAMED: &str = "upload";
/// Bytes. Leaves room for an id and a prefix in a key of 1,024 bytes, and for any file system's 255.
const MAX_BYTES: usize = 128;

/// The last segment of `raw` (either kind of slash), without control and direction characters, leading dots or
/// surrounding space, cut to 128 bytes; `upload` if nothing is left.
pub fn safe_file_name(raw: &str) -> String {
    let last = raw.rsplit(['/', '\\']).next().unwrap_or_default();
    let visible: String = last.chars().filter(|c| !c.is_control() && !redirects(*c)).collect();
    let trimmed = visible.trim_start_matches(|c: char| c == '.' || c.is_whitespace());
    let mut end = trimmed.len().min(MAX_BYTES);
    while !trimmed.is_char_boundary(end) {
        end -= 1;
    }
    match trimmed[..end].trim_end() {
        "" => UNNAMED.to_owned(),
        name => name.to_owned(),
    }
}

/// A safe file name without its last extension.
pub fn stem(name: &str) -> &str {
    Path::new(name).file_stem().and_then(|s| s.to_str()).unwrap_or(name)
}

/// Line and paragraph separators and Unicode's bidirectional controls: they make a printed name look like another.
fn redirects(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_lose_their_folders_and_dots() {
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

    #[test]
    fn a_stem_lacks_the_last_extension_only() {
        for (name, expected) in [("photo_1.jpg", "photo_1"), ("a.tar.gz", "a.tar"), ("upload", "upload"), ("x.", "x")] {
            assert_eq!(stem(name), expected, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_one_safe_segment(raw in "\\PC{0,300}|[./\\\\\\r\\n\\x00a-cé😀 ]{0,200}") {
            let name = safe_file_name(&raw);
            prop_assert!(!name.is_empty() && name.len() <= MAX_BYTES);
            prop_assert!(!name.starts_with('.') && name != "..");
            let has_bad = name.chars().any(|c| c == '/' || c == '\\' || c.is_control() || redirects(c));
            prop_assert!(!has_bad);
            prop_assert!(!stem(&name).is_empty());
            prop_assert_eq!(safe_file_name(&name), name.clone(), "a safe name stays as it is");
        }
    }
}
