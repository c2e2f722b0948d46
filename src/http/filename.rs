//! File names from outside, made safe: they become parts of keys and of answers.

/// Longest name, in bytes: with an id before it, a key part stays under the 255 bytes of a file name.
const MAX_BYTES: usize = 128;
/// The name of what has none.
const NAMELESS: &str = "upload";

/// The last part of a path of either kind, without control characters and leading dots, at most 128 bytes, never empty.
pub fn safe(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !c.is_control()).collect();
    let trimmed = clean.trim().trim_start_matches('.');
    // A name that is too long keeps its extension.
    let (stem, extension) = match trimmed.rsplit_once('.') {
        Some((stem, ext)) if !stem.is_empty() && ext.len() <= 8 => (stem, format!(".{ext}")),
        _ => (trimmed, String::new()),
    };
    let stem = &stem[..stem.floor_char_boundary(MAX_BYTES - extension.len())];
    let safe = format!("{stem}{extension}");
    if safe.is_empty() { NAMELESS.to_owned() } else { safe }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_dots_and_control_characters_go() {
        for (given, expected) in [
            ("photo.jpg", "photo.jpg"),
            ("../../etc/passwd", "passwd"),
            ("C:\\photos\\me.png", "me.png"),
            (".hidden", "hidden"),
            ("..", "upload"),
            ("", "upload"),
            ("a\u{0}b\n.jpg", "ab.jpg"),
            ("Zoë Müller.jpeg", "Zoë Müller.jpeg"),
        ] {
            assert_eq!(safe(given), expected, "{given:?}");
        }
    }

    proptest! {
        #[test]
        fn any_name_becomes_one_safe_part(name in ".{0,300}") {
            let safe = safe(&name);
            prop_assert!(!safe.is_empty() && safe.len() <= MAX_BYTES);
            prop_assert!(!safe.contains(['/', '\\']) && !safe.starts_with('.') && !safe.chars().any(char::is_control));
        }
    }
}
