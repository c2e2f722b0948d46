//! File names from clients, made safe to keep, to print and to be part of an object's key.

/// Name of a file that came without a usable one.
pub const UNNAMED: &str = "upload";
/// Bytes. Leaves room for an id and a prefix in a key of 1,024 bytes, and for any file system's 255.
const MAX_BYTES: usize = 128;
/// Bytes of an extension with its dot.
const MAX_EXTENSION: usize = 9;

/// The last segment of `raw` (either kind of slash), without control and direction characters, leading dots or
/// surrounding space, cut to 128 bytes; `upload` if nothing is left.
pub fn safe_file_name(raw: &str) -> String {
    let last = raw.rsplit(['/', '\\']).next().unwrap_or_default();
    let visible: String = last.chars().filter(|c| !c.is_control() && !redirects(*c)).collect();
    let trimmed = visible.trim_start_matches(|c: char| c == '.' || c.is_whitespace());
    let trimmed = trimmed.trim_end();
    // A name that is too long keeps its extension.
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

    proptest! {
        #[test]
        fn any_name_is_one_safe_segment(raw in "\\PC{0,300}|[./\\\\\\r\\n\\x00a-cé😀 ]{0,200}") {
            let name = safe_file_name(&raw);
            prop_assert!(!name.is_empty() && name.len() <= MAX_BYTES);
            prop_assert!(!name.starts_with('.') && name != "..");
            let has_bad = name.chars().any(|c| c == '/' || c == '\\' || c.is_control() || redirects(c));
            prop_assert!(!has_bad);
            prop_assert_eq!(safe_file_name(&name), name.clone(), "a safe name stays as it is");
        }
    }
}
