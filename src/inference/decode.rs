//! Reads images.

use std::io::Cursor;

use crate::recognition::{Failure, FailureKind};

pub struct ImageInfo {
    pub width: u32,
    pub height: u32,
}

/// Placeholder until the merge.
pub fn inspect(bytes: &[u8], max_pixels: u64) -> Result<ImageInfo, Failure> {
    let reader = image::ImageReader::new(Cursor::new(bytes)).with_guessed_format().expect("a slice");
    if reader.format().is_none() {
        return Err(Failure::new(
            FailureKind::Unsupported,
            "not an image of a kind that is read: send JPEG, PNG or WebP",
        ));
    }
    let (width, height) = reader
        .into_dimensions()
        .map_err(|e| Failure::new(FailureKind::Damaged, format!("the image is damaged: {e}")))?;
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(Failure::new(FailureKind::TooLarge, format!("{width} × {height} pixels; at most {max_pixels}")));
    }
    Ok(ImageInfo { width, height })
}
