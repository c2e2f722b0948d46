//! Walks over the chunks of a WebP, because its decoder takes memory for what they claim before it looks whether they fit
//! together.

use super::decode_error::{DecodeError, Fault};

/// Bytes before the first chunk: `RIFF`, a size, `WEBP`.
const RIFF: usize = 12;
/// Bytes of a chunk before its data: a name and a length.
const FRAME: usize = 8;
/// Bytes of a frame of an animation before its chunks.
const ANIMATION_FRAME: usize = 16;

/// Width and height.
type Size = (u32, u32);

/// Checks that each part that is decoded is whole, and is as large as the image, or as the frame of an animation that it
/// is in. See RFC 9649. What is not a WebP is left to the decoder.
///
/// # Errors
/// `Damaged`.
pub(crate) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let Some((b"VP8X", extended)) = bytes.get(RIFF..).and_then(first) else { return Ok(()) };
    // The decoder reads it also from a header that claims to be shorter.
    let Some(canvas) = bytes.get(RIFF + FRAME + 4..).and_then(three_byte_size) else { return Ok(()) };
    let mut animated = false;
    let mut chunks = after(&bytes[RIFF..], extended.len());
    while let Some((name, data)) = first(chunks) {
        match name {
            b"ANMF" if !animated => {
                animated = true;
                frame(data)?;
            }
            _ => image(name, data, canvas)?,
        }
        whole(name, data, claimed(chunks))?;
        chunks = after(chunks, claimed(chunks));
    }
    Ok(())
}

/// Checks a frame of an animation, of which the first two chunks are decoded.
fn frame(data: &[u8]) -> Result<(), DecodeError> {
    let Some(size) = data.get(6..).and_then(three_byte_size) else { return Ok(()) };
    let mut chunks = data.get(ANIMATION_FRAME..).unwrap_or_default();
    while let Some((name, data)) = first(chunks) {
        image(name, data, size)?;
        whole(name, data, claimed(chunks))?;
        chunks = after(chunks, claimed(chunks));
    }
    Ok(())
}

/// Checks that all data of a chunk are present that claims to have `length` bytes, if the chunk is read. The decoder takes
/// EXIF data also from a frame of an animation.
fn whole(name: &[u8], data: &[u8], length: usize) -> Result<(), DecodeError> {
    if data.len() < length && matches!(name, b"EXIF" | b"VP8 " | b"VP8L" | b"ALPH" | b"ANMF") {
        return Err(damaged("it ends too early, as after an interrupted transfer; send it again"));
    }
    Ok(())
}

/// Checks that pixels have this size, if the chunk has pixels.
fn image(name: &[u8], data: &[u8], size: Size) -> Result<(), DecodeError> {
    let own = match name {
        b"VP8 " => lossy_size(data),
        b"VP8L" => lossless_size(data),
        _ => None,
    };
    match own {
        Some(own) if own != size => Err(damaged("its parts have different sizes")),
        _ => Ok(()),
    }
}

/// Returns the name of the first chunk, and what is present of its data.
fn first(chunks: &[u8]) -> Option<(&[u8; 4], &[u8])> {
    let name = chunks.first_chunk()?;
    let data = chunks.get(FRAME..)?;
    Some((name, &data[..claimed(chunks).min(data.len())]))
}

/// Returns the length of the first chunk's data, as it claims.
fn claimed(chunks: &[u8]) -> usize {
    let length = chunks.get(4..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    u32::from_le_bytes(length) as usize
}

/// Returns the chunks after the first one, whose data have this length, rounded up to an even number.
fn after(chunks: &[u8], length: usize) -> &[u8] {
    chunks.get(FRAME + length.next_multiple_of(2)..).unwrap_or_default()
}

/// Reads two numbers of three bytes, each one less than what it means.
fn three_byte_size(bytes: &[u8]) -> Option<Size> {
    let [a, b, c, d, e, f] = *bytes.first_chunk()?;
    Some((u32::from_le_bytes([a, b, c, 0]) + 1, u32::from_le_bytes([d, e, f, 0]) + 1))
}

/// Reads the size of a key frame (RFC 6386, section 9.1).
fn lossy_size(data: &[u8]) -> Option<Size> {
    let [a, b, c, d] = *data.get(6..)?.first_chunk()?;
    Some((u32::from(u16::from_le_bytes([a, b]) & 0x3FFF), u32::from(u16::from_le_bytes([c, d]) & 0x3FFF)))
}

/// Reads the size of a lossless image (RFC 9649, section 3.4).
fn lossless_size(data: &[u8]) -> Option<Size> {
    let bits = u32::from_le_bytes(*data.get(1..)?.first_chunk()?);
    Some(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
}

fn damaged(what: &str) -> DecodeError {
    DecodeError::new(Fault::Damaged, format!("the WebP is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANVAS: &[u8] = &[0, 0, 0, 0, 4, 0, 0, 2, 0, 0];
    /// Lossy and lossless pixels of 5 x 3.
    const LOSSY: &[u8] = &[0, 0, 0, 0x9D, 1, 0x2A, 5, 0, 3, 0];
    const LOSSLESS: &[u8] = &[0x2F, 0x04, 0x80, 0, 0];

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let padding = &[0][..data.len() % 2];
        [name.as_slice(), &(data.len() as u32).to_le_bytes(), data, padding].concat()
    }

    fn webp(chunks: &[Vec<u8>]) -> Vec<u8> {
        let body = chunks.concat();
        [b"RIFF".as_slice(), &(body.len() as u32 + 4).to_le_bytes(), b"WEBP", &body].concat()
    }

    fn animated(width: u8, pixels: &[u8]) -> Vec<u8> {
        let head = [0, 0, 0, 0, 0, 0, width - 1, 0, 0, 2, 0, 0, 0, 0, 0, 0];
        chunk(b"ANMF", &[head.as_slice(), &chunk(b"ALPH", b"alpha"), &chunk(b"VP8 ", pixels)].concat())
    }

    #[test]
    fn pixels_must_be_as_large_as_the_image() {
        let head = chunk(b"VP8X", CANVAS);
        let mut wide = LOSSY.to_vec();
        wide[7] = 0x10; // 4,101 columns
        let mut high = LOSSLESS.to_vec();
        high[3] = 0x80;
        for (chunks, fits) in [
            (vec![head.clone(), chunk(b"odd ", b"x"), chunk(b"VP8 ", LOSSY)], true),
            (vec![head.clone(), chunk(b"VP8L", LOSSLESS)], true),
            (vec![head.clone(), chunk(b"odd ", b"x"), chunk(b"VP8 ", &wide)], false),
            (vec![head.clone(), chunk(b"VP8L", &high)], false),
            (vec![head.clone(), animated(5, LOSSY)], true),
            (vec![head.clone(), animated(4, LOSSY)], false),
            (vec![head.clone(), animated(5, &wide)], false),
            (vec![head.clone(), animated(5, LOSSY), animated(5, &wide)], true), // only the first is decoded
            (vec![chunk(b"VP8X", &CANVAS[..9]), chunk(b"VP8 ", LOSSY)], true),
            (vec![chunk(b"VP8X", &CANVAS[..9]), chunk(b"VP8 ", &wide)], false),
            (vec![chunk(b"VP8 ", &wide)], true), // which is the size of the image
        ] {
            assert_eq!(check(&webp(&chunks)).is_ok(), fits, "{chunks:?}");
        }
    }

    #[test]
    fn what_is_read_must_be_whole() {
        for (name, fits) in [(b"EXIF", false), (b"XMP ", true), (b"VP8L", false)] {
            let whole = webp(&[chunk(b"VP8X", CANVAS), chunk(name, &[LOSSLESS, &[0; 9]].concat())]);
            assert!(check(&whole).is_ok());
            assert_eq!(check(&whole[..whole.len() - 1]).is_ok(), fits, "{name:?}");
        }
        let mut endless = chunk(b"EXIF", &[0; 40]);
        endless[7] = 0x20; // half a gigabyte
        let in_frame = chunk(b"ANMF", &[&[0; ANIMATION_FRAME][..], &endless].concat());
        assert!(check(&webp(&[chunk(b"VP8X", CANVAS), in_frame])).is_err());
        let whole = webp(&[chunk(b"VP8X", CANVAS), animated(5, LOSSY)]);
        for length in 0..whole.len() {
            let _ = check(&whole[..length]); // never panics
        }
    }
}
