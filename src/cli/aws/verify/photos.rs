//! The photos that are uploaded: made here, so that they are of nobody.

use image::{ImageFormat, Rgb, RgbImage};

/// Side of the small photo in pixels.
const SMALL: u32 = 320;
/// Side of the large photo. Noise does not compress, so it takes three bytes for each pixel: more than fits into a message.
const LARGE: u32 = 400;

/// Returns a JPEG of a few kilobytes, which travels in the message of its job.
///
/// # Errors
/// It cannot be encoded.
pub(super) fn small() -> anyhow::Result<Vec<u8>> {
    let image = RgbImage::from_fn(SMALL, SMALL, |x, y| Rgb([(x / 2) as u8, (y / 2) as u8, 96]));
    encoded(image, ImageFormat::Jpeg)
}

/// Returns a PNG that is larger than `queue.inline_limit`, so that it is stored and the message only refers to it.
///
/// # Errors
/// It cannot be encoded.
pub(super) fn large() -> anyhow::Result<Vec<u8>> {
    let mut state = 1u32;
    let mut noise = || {
        // Constants of Numerical Recipes; the upper bits of this generator are random enough not to be compressed.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    encoded(RgbImage::from_fn(LARGE, LARGE, |_, _| Rgb([noise(), noise(), noise()])), ImageFormat::Png)
}

/// Returns the first half of the small photo, as a broken transfer leaves it.
///
/// # Errors
/// It cannot be encoded.
pub(super) fn damaged() -> anyhow::Result<Vec<u8>> {
    let mut bytes = small()?;
    bytes.truncate(bytes.len() / 2);
    Ok(bytes)
}

fn encoded(image: RgbImage, format: ImageFormat) -> anyhow::Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format)?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::vision::decode;

    #[test]
    fn the_small_photo_fits_into_a_message_and_the_large_one_does_not() {
        let limit = crate::testing::settings().queue.inline_limit;
        let (small, large) = (small().expect("a photo"), large().expect("a photo"));
        assert!(small.len() < limit / 8 && large.len() > limit * 3 / 2, "{} {}", small.len(), large.len());
        assert!(image::load_from_memory(&small).is_ok() && image::load_from_memory(&large).is_ok());
        let (whole, half) =
            (decode::inspect(&small, 1_000_000), decode::inspect(&damaged().expect("bytes"), 1_000_000));
        assert!(whole.is_ok() && half.is_err(), "as the web tier sees it");
    }
}
