//! Images: what an uploader sends, which the web tier inspects and a worker decodes.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder as _, ImageFormat, RgbImage, codecs::png};

use crate::inference::vision::{
    decode::{decode, inspect},
    decode_error::DecodeError,
};

/// Far fewer than `recognition.max_pixels`, so that each image takes little time. The limits of memory are in proportion.
const MAX_PIXELS: u64 = 1 << 16;
/// Memory for one image, in bytes: per allowed pixel what decoding may take for each, and what every decoder needs.
pub(super) const MEMORY: usize = 12 * MAX_PIXELS as usize + (20 << 20);
/// Pixels of images that are encoded again.
const MAX_ENCODED: u32 = 4096;
/// Longest message of an error, in bytes.
const MAX_MESSAGE: usize = 500;

pub(super) fn jpeg(input: &[u8]) {
    image(&with_signature(input, &[(0, b"\xFF\xD8\xFF")]), ImageFormat::Jpeg);
}

pub(super) fn png(input: &[u8]) {
    image(&with_signature(input, &[(0, b"\x89PNG\r\n\x1a\n")]), ImageFormat::Png);
}

pub(super) fn webp(input: &[u8]) {
    image(&with_signature(input, &[(0, b"RIFF"), (8, b"WEBP")]), ImageFormat::WebP);
}

/// Any file, whatever it begins with.
pub(super) fn any(input: &[u8]) {
    check(input);
}

/// Returns the input with the bytes by which the format is detected, so that none is wasted on others.
fn with_signature(input: &[u8], signature: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for (at, part) in signature {
        let end = at + part.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[*at..end].copy_from_slice(part);
    }
    bytes
}

fn image(bytes: &[u8], format: ImageFormat) {
    if let Some(decoded) = check(bytes) {
        assert_eq!(inspect(bytes, MAX_PIXELS).expect("it was decoded").format, format);
        if decoded.width() * decoded.height() <= MAX_ENCODED {
            assert_eq!(decode(&encoded(&decoded), MAX_PIXELS).as_ref(), Ok(&decoded), "the same pixels");
        }
    }
}

/// Inspects and decodes a file, and returns its pixels.
fn check(bytes: &[u8]) -> Option<RgbImage> {
    let inspected = inspect(bytes, MAX_PIXELS);
    let decoded = decode(bytes, MAX_PIXELS);
    match (inspected, decoded) {
        (Ok(info), Ok(image)) => {
            let (width, height) = image.dimensions();
            let upright = [(width, height), (height, width)];
            assert!(upright.contains(&(info.width, info.height)), "{info:?} and {width} x {height}");
            assert!(width > 0 && height > 0 && u64::from(width) * u64::from(height) <= MAX_PIXELS);
            assert_eq!(image.as_raw().len(), 3 * width as usize * height as usize);
            Some(image)
        }
        (Ok(_), Err(error)) => {
            explained(&error);
            None
        }
        (Err(refused), Err(error)) => {
            explained(&refused);
            assert_eq!(refused.fault, error.fault, "{refused}, and {error}");
            None
        }
        (Err(refused), Ok(_)) => panic!("refused, although it can be decoded: {refused}"),
    }
}

/// An error is one line for the person who has uploaded the file.
fn explained(error: &DecodeError) {
    let message = &error.message;
    assert!(!message.is_empty() && message.len() <= MAX_MESSAGE && !message.contains(char::is_control), "{message:?}");
}

fn encoded(image: &RgbImage) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let encoder = png::PngEncoder::new_with_quality(&mut out, png::CompressionType::Fast, png::FilterType::NoFilter);
    let written = encoder.write_image(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8);
    written.expect("pixels can be encoded");
    out.into_inner()
}
