//! Decodes images to upright RGB pixels. The format is detected from the content, never from a file's name.

use std::{borrow::Cow, io::Cursor};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage,
    imageops::{flip_horizontal_in_place, flip_vertical_in_place, rotate90, rotate180_in_place, rotate270},
    metadata::Orientation,
};

use super::{
    decode_error::{DecodeError, Fault},
    jpeg, png, webp,
};

/// The header of an image. Width and height are as stored; the EXIF orientation may swap them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// JPEG, PNG or WebP.
    pub format: ImageFormat,
}

/// Memory for a decoded image, in bytes per allowed pixel: enough for 8-bit RGBA. Deeper images may have fewer pixels.
const BYTES_PER_PIXEL: u64 = 4;
/// Pixels on a side: as many as a JPEG can have (ITU-T T.81, B.2.2). A PNG could have 2,147,483,647.
const MAX_SIDE: u32 = 65_535;
/// Memory that a decoder may use in addition, in bytes.
const DECODER_SPARE: u64 = 16 << 20;

/// Checks format and size from the header, and that a JPEG is complete. Decodes no pixels.
///
/// # Errors
/// `Unsupported` (not JPEG, PNG or WebP), `Damaged`, `TooLarge` (over `max_pixels`, or over 65,535 on a side).
pub fn inspect(bytes: &[u8], max_pixels: u64) -> Result<ImageInfo, DecodeError> {
    let format = sniff(bytes)?;
    if format == ImageFormat::Jpeg {
        let (width, height) = jpeg::dimensions(bytes)?;
        check_size(width, height, 3, max_pixels)?;
        return Ok(ImageInfo { width, height, format });
    }
    let bytes = readable(bytes, format)?;
    let (width, height) = open(&bytes, format, max_pixels)?.dimensions();
    Ok(ImageInfo { width, height, format })
}

/// Decodes an image: upright by its EXIF orientation, without transparency, with 8 bits per channel. Of an animation,
/// the first frame.
///
/// # Errors
/// Same as [`inspect`], and `Damaged` for pixels that cannot be decoded.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<RgbImage, DecodeError> {
    let format = sniff(bytes)?;
    if format == ImageFormat::Jpeg {
        inspect(bytes, max_pixels)?;
        let (image, orientation) = jpeg::decode(bytes, |width, height| check_size(width, height, 3, max_pixels))?;
        return Ok(upright(image, orientation));
    }
    let bytes = readable(bytes, format)?;
    let mut decoder = open(&bytes, format, max_pixels)?;
    let orientation = decoder.orientation().map_err(|e| error_of(format, &e))?;
    let image = DynamicImage::from_decoder(decoder).map_err(|e| error_of(format, &e))?;
    Ok(upright(rgb(image), orientation))
}

/// Returns the colours of an image. The library's generic function is called, so that it is compiled, and optimised,
/// with this crate.
fn rgb(image: DynamicImage) -> RgbImage {
    match image {
        DynamicImage::ImageRgb8(image) => image,
        other => other.to::<Rgb<u8>>(),
    }
}

/// Turns an image upright, as [`DynamicImage::apply_orientation`] does, by functions that are compiled with this crate.
fn upright(mut image: RgbImage, orientation: Orientation) -> RgbImage {
    if matches!(orientation, Orientation::Rotate90 | Orientation::Rotate90FlipH) {
        image = rotate90(&image);
    }
    if matches!(orientation, Orientation::Rotate270 | Orientation::Rotate270FlipH) {
        image = rotate270(&image);
    }
    match orientation {
        Orientation::Rotate180 => rotate180_in_place(&mut image),
        Orientation::FlipHorizontal | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            flip_horizontal_in_place(&mut image);
        }
        Orientation::FlipVertical => flip_vertical_in_place(&mut image),
        Orientation::NoTransforms | Orientation::Rotate90 | Orientation::Rotate270 => {}
    }
    image
}

/// Detects the format from the content.
fn sniff(bytes: &[u8]) -> Result<ImageFormat, DecodeError> {
    const SUPPORTED: &str = "send JPEG, PNG or WebP";
    let unsupported = |what: String| DecodeError::new(Fault::Unsupported, format!("{what}; {SUPPORTED}"));
    if bytes.is_empty() {
        return Err(unsupported("the file is empty".into()));
    }
    // ISO base media files, such as the photos of phones that do not store JPEG.
    if bytes.get(4..8) == Some(b"ftyp") {
        return Err(unsupported("HEIC, AVIF and video files are not supported".into()));
    }
    match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)) => Ok(format),
        Ok(other) => Err(unsupported(format!("{} images are not supported", name(other)))),
        Err(_) => Err(unsupported("this is not an image".into())),
    }
}

/// Returns the file without what would only take the decoder's time and memory.
///
/// # Errors
/// `Damaged` for what would make the decoder panic, or take memory for more than the image.
fn readable(bytes: &[u8], format: ImageFormat) -> Result<Cow<'_, [u8]>, DecodeError> {
    if format == ImageFormat::Png {
        png::check(bytes)?;
        return Ok(png::without_metadata(bytes));
    }
    webp::check(bytes)?;
    Ok(Cow::Borrowed(bytes))
}

/// Returns a decoder with limits that has read the header.
fn open(bytes: &[u8], format: ImageFormat, max_pixels: u64) -> Result<impl ImageDecoder + '_, DecodeError> {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(max_pixels.saturating_mul(BYTES_PER_PIXEL).saturating_add(DECODER_SPARE));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| error_of(format, &e))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.color_type().bytes_per_pixel(), max_pixels)?;
    Ok(decoder)
}

/// Checks the number of pixels, and the sides: images of one pixel's width take memory by the line. Images with more
/// bytes per pixel than [`BYTES_PER_PIXEL`] may have proportionally fewer.
fn check_size(width: u32, height: u32, bytes_per_pixel: u8, max_pixels: u64) -> Result<(), DecodeError> {
    if width.max(height) > MAX_SIDE {
        return Err(DecodeError::new(
            Fault::TooLarge,
            format!(
                "the image has {width} x {height} pixels; at most {MAX_SIDE} are allowed on a side; send a smaller one"
            ),
        ));
    }
    let pixels = u64::from(width) * u64::from(height);
    let allowed = max_pixels * BYTES_PER_PIXEL / u64::from(bytes_per_pixel).max(BYTES_PER_PIXEL);
    if pixels <= allowed {
        return Ok(());
    }
    let deep = if allowed < max_pixels { " at this colour depth" } else { "" };
    Err(DecodeError::new(
        Fault::TooLarge,
        format!(
            "the image has {width} x {height} = {pixels} pixels; at most {allowed} are allowed{deep} \
             (recognition.max_pixels = {max_pixels}); send a smaller one"
        ),
    ))
}

/// Turns an error of the decoder into one of this module.
fn error_of(format: ImageFormat, error: &ImageError) -> DecodeError {
    let name = name(format);
    match error {
        ImageError::Limits(_) => DecodeError::new(
            Fault::TooLarge,
            format!("the {name} needs more memory than is allowed; send a smaller one"),
        ),
        ImageError::Unsupported(what) => {
            DecodeError::new(Fault::Unsupported, format!("this kind of {name} is not supported: {what}"))
        }
        ImageError::Decoding(_) | ImageError::Encoding(_) | ImageError::Parameter(_) | ImageError::IoError(_) => {
            DecodeError::new(Fault::Damaged, format!("the {name} is damaged: {error}"))
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
