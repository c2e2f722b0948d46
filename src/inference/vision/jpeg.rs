//! Decodes JPEGs, and walks over their markers, to check that one is complete and to read its size. The decoder
//! silently fills the missing part of a truncated file with grey.

use image::{RgbImage, metadata::Orientation};
use memchr::memchr;
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

use super::decode_error::{DecodeError, Fault};

/// Most scans. Progressive JPEGs have about ten, and each scan of a file may take time for all pixels, however short it is.
const MAX_SCANS: usize = 100;

/// A JPEG. A type of our own makes this crate compile, and optimise, the decoder's `inline(never)` functions, instead
/// of sharing those that the crate `image` has compiled for slices.
struct Jpeg<'a>(&'a [u8]);

impl AsRef<[u8]> for Jpeg<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

/// Returns the pixels of a JPEG, as stored, and its EXIF orientation. `check` is called with the width and the height
/// that the decoder has read, before it allocates memory for pixels.
///
/// # Errors
/// Any error of `check`, `Unsupported` for a rare variant of JPEG, and `Damaged` for headers or pixels that cannot be
/// decoded.
pub(crate) fn decode(
    bytes: &[u8],
    check: impl FnOnce(u32, u32) -> Result<(), DecodeError>,
) -> Result<(RgbImage, Orientation), DecodeError> {
    // As lenient as the decoder can be. Its limits of width and height are lower than those of the format.
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(Jpeg(bytes)), options);
    decoder.decode_headers().map_err(|e| error_of(&e))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| damaged("it has no size"))?;
    let (width, height) = (width as u32, height as u32); // each has 16 bits
    check(width, height)?;
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let pixels = decoder.decode().map_err(|e| error_of(&e))?;
    let image = RgbImage::from_raw(width, height, pixels).ok_or_else(|| damaged("pixels are missing"))?;
    Ok((image, orientation.unwrap_or(Orientation::NoTransforms)))
}

fn error_of(error: &DecodeErrors) -> DecodeError {
    match error {
        DecodeErrors::Unsupported(what) => {
            DecodeError::new(Fault::Unsupported, format!("this kind of JPEG is not supported: {what:?}"))
        }
        other => damaged(&other.to_string()),
    }
}

/// Returns the width and height of a JPEG, as stored.
///
/// Segments are skipped by their length, so that the end of a thumbnail in an EXIF segment is not taken for the end of
/// the image. Bytes after the end of the image, which some cameras append, are ignored. See ITU-T T.81, annex B.
///
/// # Errors
/// `Damaged` if the image is incomplete, its size is zero, it has two, or too many scans; `Unsupported` if its samples do
/// not have 8 bits, or brightness has fewer of them than colour.
pub(crate) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    let mut at = 2;
    let mut size = None;
    let mut scans = 0;
    loop {
        let marker = next_marker(bytes, &mut at)?;
        match marker {
            0xD9 => break,
            0x01 | 0xD0..=0xD8 => {}
            _ => {
                let segment = segment(bytes, at)?;
                match marker {
                    // Start of frame; C4, C8 and CC are tables and extensions.
                    0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                        let frame = segment.get(1..5).ok_or_else(|| damaged("its frame header is too short"))?;
                        if segment[0] != 8 {
                            return Err(DecodeError::new(
                                Fault::Unsupported,
                                format!("JPEGs with {} bits per sample are not supported; send one with 8", segment[0]),
                            ));
                        }
                        check_sampling(segment.get(6..).unwrap_or_default())?;
                        let two = |i: usize| u32::from(u16::from_be_bytes([frame[i], frame[i + 1]]));
                        if size.replace((two(2), two(0))).is_some() {
                            return Err(damaged("it has two frames, which may have different sizes"));
                        }
                    }
                    0xDA if scans == MAX_SCANS => return Err(damaged("it has too many scans")),
                    0xDA => scans += 1,
                    _ => {}
                }
                at += 2 + segment.len();
                if marker == 0xDA {
                    skip_entropy_coded(bytes, &mut at);
                }
            }
        }
    }
    match size {
        Some((width, height)) if scans > 0 && width > 0 && height > 0 => Ok((width, height)),
        Some(_) if scans > 0 => Err(damaged("its width or height is zero")),
        _ => Err(damaged("it has no image data")),
    }
}

/// Checks the components of a frame header: each has an id, its sampling factors, and a table. No encoder makes the first,
/// which is brightness, coarser than another one, and for narrow images of that kind the decoder panics.
fn check_sampling(components: &[u8]) -> Result<(), DecodeError> {
    let factors = |component: &[u8]| (component[1] >> 4, component[1] & 15);
    let mut all = components.chunks_exact(3).map(factors);
    let Some((width, height)) = all.next() else { return Ok(()) };
    if all.all(|(w, h)| w <= width && h <= height) {
        return Ok(());
    }
    Err(DecodeError::new(
        Fault::Unsupported,
        "JPEGs with more samples of colour than of brightness are not supported; save it with an ordinary program",
    ))
}

/// Returns the code of the next marker, and moves `at` past it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Result<u8, DecodeError> {
    let found = bytes.get(*at..).and_then(|rest| memchr(0xFF, rest));
    *at += found.ok_or_else(cut_short)?;
    while bytes.get(*at) == Some(&0xFF) {
        *at += 1;
    }
    let code = *bytes.get(*at).ok_or_else(cut_short)?;
    *at += 1;
    Ok(code)
}

/// Returns the content of the segment whose length field is at `at`.
fn segment(bytes: &[u8], at: usize) -> Result<&[u8], DecodeError> {
    let length = bytes.get(at..at + 2).ok_or_else(cut_short)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length < 2 {
        return Err(damaged("a segment has an impossible length"));
    }
    bytes.get(at + 2..at + length).ok_or_else(cut_short)
}

/// Moves `at` to the next marker after entropy-coded data. Stuffed zeros and restart markers are part of the data.
fn skip_entropy_coded(bytes: &[u8], at: &mut usize) {
    while let Some(found) = bytes.get(*at..).and_then(|rest| memchr(0xFF, rest)) {
        *at += found;
        match bytes.get(*at + 1) {
            Some(0x00 | 0xD0..=0xD7) => *at += 2,
            Some(0xFF) => *at += 1,
            _ => return,
        }
    }
    *at = bytes.len();
}

fn cut_short() -> DecodeError {
    damaged("it ends too early, as after an interrupted transfer; send it again")
}

fn damaged(what: &str) -> DecodeError {
    DecodeError::new(Fault::Damaged, format!("the JPEG is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &[u8] = &[0xFF, 0xD8];
    /// A start of frame: 8 bits per sample, 3 rows, 5 columns, one component.
    const FRAME: &[u8] = &[0xFF, 0xC0, 0, 11, 8, 0, 3, 0, 5, 1, 1, 0x11, 0];
    const SCAN: &[u8] = &[0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0];
    const END: &[u8] = &[0xFF, 0xD9];

    fn read(parts: &[&[u8]]) -> Result<(u32, u32), String> {
        dimensions(&parts.concat()).map_err(|error| error.message)
    }

    #[test]
    fn stuffed_zeros_restarts_and_fill_bytes_do_not_end_the_data() {
        let data: &[u8] = &[1, 0xFF, 0, 2, 0xFF, 0xD0, 3, 0xFF, 0, 0xFF, 0xD7, 4, 0xFF, 0, 0xFF];
        assert_eq!(read(&[START, FRAME, SCAN, data, END]), Ok((5, 3)));
    }

    #[test]
    fn samples_have_eight_bits() {
        let deep = [&FRAME[..4], &[12], &FRAME[5..]].concat();
        let error = dimensions(&[START, &deep, SCAN, END].concat()).expect_err("12 bits");
        assert!(error.fault == Fault::Unsupported && error.message.contains("12 bits"), "{error}");
    }

    #[test]
    fn brightness_has_at_least_as_many_samples_as_colour() {
        let frame = |colour: u8| [&[0xFF, 0xC2, 0, 14, 8, 0, 3, 0, 5, 2, 1, 0x22, 0, 2][..], &[colour, 0]].concat();
        for (colour, allowed) in [(0x11, true), (0x22, true), (0x21, true), (0x32, false), (0x23, false)] {
            let inspected = dimensions(&[START, &frame(colour), SCAN, END].concat());
            assert_eq!(inspected.is_ok(), allowed, "{colour:x}");
            assert!(inspected.is_ok() || inspected.is_err_and(|error| error.fault == Fault::Unsupported));
        }
    }

    #[test]
    fn scans_are_limited() {
        let scans = |count| read(&[START, FRAME, &SCAN.repeat(count), END]);
        assert_eq!(scans(MAX_SCANS), Ok((5, 3)));
        assert!(scans(MAX_SCANS + 1).expect_err("too many").contains("too many scans"));
    }

    #[test]
    fn tables_and_thumbnails_are_skipped() {
        let table: &[u8] = &[0xFF, 0xC4, 0, 6, 9, 9, 9, 9];
        let thumbnail: &[u8] = &[0xFF, 0xE1, 0, 6, 0xFF, 0xD8, 0xFF, 0xD9];
        assert_eq!(read(&[START, thumbnail, FRAME, table, SCAN, &[1], END, b"appended"]), Ok((5, 3)));
    }

    #[test]
    fn an_image_without_data_or_with_impossible_segments_is_damaged() {
        for (parts, why) in [
            (vec![START, FRAME, END], "no image data"),
            (vec![START, SCAN, END], "no image data"),
            (vec![START, &[0xFF, 0xE1, 0, 1], FRAME, SCAN, END], "impossible length"),
            (vec![START, FRAME, FRAME, SCAN, END], "two frames"),
            (vec![START, FRAME, SCAN, &[1]], "ends too early"),
            (vec![START, &FRAME[..8]], "ends too early"),
        ] {
            let message = read(&parts).expect_err(why);
            assert!(message.contains(why), "{message}");
        }
    }
}
