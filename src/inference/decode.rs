//! Encoded bytes to upright RGB pixels. The format is told by the content, never by a file's name.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::jpeg;
use crate::job::{Failure, FailureKind};

/// What the header of an image says. Width and height are as stored: EXIF orientation may swap them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    pub width: u32,
    pub height: u32,
    pub format: ImageFormat,
}

/// Memory for one decoded image, in bytes a pixel allowed: 8-bit RGBA at full size, 16-bit images at half of it.
const BYTES_PER_PIXEL: u64 = 4;
/// Memory that a decoder may use beside the pixels (colour profiles, compressed text).
const DECODER_SPARE: u64 = 16 << 20;

/// Checks format and size from the header alone, and that a JPEG is there to its end. Decodes no pixel.
///
/// # Errors
/// `Unsupported` (not JPEG, PNG or WebP), `Damaged`, `TooLarge` (over `max_pixels`).
pub fn inspect(bytes: &[u8], max_pixels: u64) -> Result<ImageInfo, Failure> {
    let format = sniff(bytes)?;
    if format == ImageFormat::Jpeg {
        let (width, height) = jpeg::dimensions(bytes)?;
        check_size(width, height, 3, max_pixels)?;
        return Ok(ImageInfo { width, height, format });
    }
    let (width, height) = open(bytes, format, max_pixels)?.dimensions();
    Ok(ImageInfo { width, height, format })
}

/// The pixels of an image, turned upright as its EXIF orientation says, without transparency, 8 bits a channel. Of
/// an animation, the first frame.
///
/// # Errors
/// As [`inspect`], and `Damaged` for pixels that cannot be decoded.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<RgbImage, Failure> {
    let format = inspect(bytes, max_pixels)?.format;
    let mut decoder = open(bytes, format, max_pixels)?;
    let orientation = decoder.orientation().map_err(|e| failure(format, &e))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| failure(format, &e))?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

fn sniff(bytes: &[u8]) -> Result<ImageFormat, Failure> {
    const READ: &str = "send JPEG, PNG or WebP";
    let unsupported = |what: String| Failure::new(FailureKind::Unsupported, format!("{what}; {READ}"));
    if bytes.is_empty() {
        return Err(unsupported("the file is empty".into()));
    }
    // ISO base media files: what phones save when they are not asked for JPEG.
    if bytes.get(4..8) == Some(b"ftyp") {
        return Err(unsupported("HEIC, AVIF and video files are not read".into()));
    }
    match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)) => Ok(format),
        Ok(other) => Err(unsupported(format!("{} images are not read", name(other)))),
        Err(_) => Err(unsupported("this is not an image".into())),
    }
}

/// A decoder that has read the header, with its limits set.
fn open(bytes: &[u8], format: ImageFormat, max_pixels: u64) -> Result<impl ImageDecoder + '_, Failure> {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(max_pixels.saturating_mul(BYTES_PER_PIXEL).saturating_add(DECODER_SPARE));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| failure(format, &e))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.color_type().bytes_per_pixel(), max_pixels)?;
    Ok(decoder)
}

fn check_size(width: u32, height: u32, bytes_per_pixel: u8, max_pixels: u64) -> Result<(), Failure> {
    let pixels = u64::from(width) * u64::from(height);
    let allowed = max_pixels * BYTES_PER_PIXEL / u64::from(bytes_per_pixel).max(BYTES_PER_PIXEL);
    if pixels <= allowed {
        return Ok(());
    }
    let deep = if allowed < max_pixels { " at this colour depth" } else { "" };
    Err(Failure::new(
        FailureKind::TooLarge,
        format!(
            "the image has {width} x {height} = {pixels} pixels; at most {allowed} are taken{deep} \
             (recognition.max_pixels = {max_pixels}); send a smaller one"
        ),
    ))
}

fn failure(format: ImageFormat, error: &ImageError) -> Failure {
    let name = name(format);
    match error {
        ImageError::Limits(_) => Failure::new(
            FailureKind::TooLarge,
            format!("the {name} needs more memory than is allowed; send a smaller one"),
        ),
        ImageError::Unsupported(what) => {
            Failure::new(FailureKind::Unsupported, format!("this kind of {name} is not read: {what}"))
        }
        ImageError::Decoding(_) | ImageError::Encoding(_) | ImageError::Parameter(_) | ImageError::IoError(_) => {
            Failure::new(FailureKind::Damaged, format!("the {name} is damaged: {error}"))
        }
    }
}

fn name(format: ImageFormat) -> String {
    match format {
        ImageFormat::Jpeg => "JPEG".into(),
        ImageFormat::Png => "PNG".into(),
        ImageFormat::WebP => "WebP".into(),
        other => format!("{other:?}").to_uppercase(),
    }
}
