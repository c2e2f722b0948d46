//! Identifies an enrolled photo by its embedding.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

/// Identifies an enrolled photo in its gallery: a UUID of version 8, which is derived from the embedding. A photo keeps it
/// when its person is renamed, and whoever has it learns nothing about the face.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhotoId(u128);

/// The text is not the id of a photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a photo is a UUID")]
pub struct NotAPhotoId;

impl PhotoId {
    /// Returns the id of the photo with this embedding, as it is stored in the gallery.
    pub fn of(embedding: &[f32]) -> Self {
        let mut hash = Sha256::new();
        embedding.iter().for_each(|number| hash.update(number.to_le_bytes()));
        let digest = hash.finalize();
        let first: [u8; 16] = std::array::from_fn(|i| digest[i]);
        // Version 8 and the variant of RFC 9562, section 5.8.
        let bits = u128::from_be_bytes(first) & !(0xF << 76) & !(0x3 << 62);
        Self(bits | 0x8 << 76 | 0x2 << 62)
    }
}

impl fmt::Display for PhotoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl FromStr for PhotoId {
    type Err = NotAPhotoId;

    fn from_str(text: &str) -> Result<Self, NotAPhotoId> {
        let groups: Vec<&str> = text.split('-').collect();
        let hex = groups.concat();
        let digits = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
        if !digits || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAPhotoId);
        }
        u128::from_str_radix(&hex, 16).map(Self).map_err(|_| NotAPhotoId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_photo_is_a_uuid_that_depends_on_every_number() {
        let id = PhotoId::of(&[0.6, 0.8]);
        let text = id.to_string();
        assert_eq!(text.len(), 36);
        assert_eq!((&text[14..15], text[19..20].contains(['8', '9', 'a', 'b'])), ("8", true), "{text}");
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        assert_ne!(id, PhotoId::of(&[0.8, 0.6]));
        assert_ne!(id, PhotoId::of(&[0.6, 0.800_000_1]));
    }

    #[test]
    fn other_text_is_not_an_id() {
        let id = PhotoId::of(&[1.0]).to_string();
        let moved = format!("{}-{}", &id[..7], &id[7..].replacen('-', "", 1));
        for bad in ["", "x", &id[1..], &format!("{id}0"), &id.replace('-', ""), &moved, "../../../etc/passwd"] {
            assert_eq!(bad.parse::<PhotoId>(), Err(NotAPhotoId), "{bad}");
        }
        assert_eq!("+1111111-1111-1111-1111-111111111111".parse::<PhotoId>(), Err(NotAPhotoId));
    }
}
