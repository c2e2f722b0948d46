//! Removes from a PNG what its decoder would decompress although nobody reads it, and checks what makes it panic.

use std::borrow::Cow;

use super::decode_error::{DecodeError, Fault};

const SIGNATURE: usize = 8;
/// Bytes of a chunk besides its data: length, type and CRC.
const FRAME: usize = 12;
/// Colour profile and text. Compressed, they can be a thousand times smaller than what the decoder keeps of them.
const UNREAD: [&[u8]; 4] = [b"iCCP", b"iTXt", b"tEXt", b"zTXt"];

/// Returns the PNG without colour profile and text. From the first chunk that is not whole, the rest is kept, so that
/// the decoder reports it.
pub(crate) fn without_metadata(png: &[u8]) -> Cow<'_, [u8]> {
    let mut kept: Option<Vec<u8>> = None;
    let mut at = SIGNATURE;
    while let Some((length, kind)) = header(png.get(at..).unwrap_or_default()) {
        let Some(chunk) = png.get(at..).and_then(|rest| rest.get(..length)) else { break };
        if UNREAD.contains(&kind) {
            kept.get_or_insert_with(|| png[..at].to_vec());
        } else if let Some(kept) = &mut kept {
            kept.extend_from_slice(chunk);
        }
        at += length;
    }
    match kept {
        None => Cow::Borrowed(png),
        Some(mut kept) => {
            kept.extend_from_slice(png.get(at..).unwrap_or_default());
            Cow::Owned(kept)
        }
    }
}

/// Checks that a palette has colours of three bytes, because the decoder takes that for granted.
///
/// # Errors
/// `Damaged`.
pub(crate) fn check(png: &[u8]) -> Result<(), DecodeError> {
    let mut chunks = png.get(SIGNATURE..).unwrap_or_default();
    while let Some((length, kind)) = header(chunks) {
        let data = length - FRAME;
        if kind == b"PLTE" && (data == 0 || !data.is_multiple_of(3)) {
            return Err(DecodeError::new(Fault::Damaged, "the PNG is damaged: its palette ends within a colour"));
        }
        chunks = chunks.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// Returns the length of the first chunk, in bytes with its frame, and its type.
fn header(chunks: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = chunks.split_first_chunk()?;
    let length = (u32::from_be_bytes(*length) as usize).checked_add(FRAME)?;
    Some((length, rest.get(..4)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
        [&(data.len() as u32).to_be_bytes()[..], kind, data, b"crc!"].concat()
    }

    fn png(chunks: &[Vec<u8>]) -> Vec<u8> {
        [b"\x89PNG\r\n\x1a\n".as_slice(), &chunks.concat()].concat()
    }

    #[test]
    fn profile_and_text_are_removed_and_all_else_stays() {
        let (size, pixels) = (chunk(b"IHDR", b"size"), chunk(b"IDAT", b"pixels"));
        let unread: Vec<_> = UNREAD.iter().map(|kind| chunk(kind, b"x")).collect();
        let [profile, text, more, last] = &unread[..] else { panic!("four kinds") };
        let full = png(&[size.clone(), profile.clone(), text.clone(), pixels.clone(), more.clone(), last.clone()]);
        let plain = png(&[size, pixels]);
        assert_eq!(*without_metadata(&full), plain);
        assert!(matches!(without_metadata(&plain), Cow::Borrowed(_)), "nothing is copied");
    }

    #[test]
    fn a_palette_has_whole_colours() {
        for (length, fits) in [(0, false), (1, false), (2, false), (3, true), (767, false), (768, true)] {
            let palette = png(&[chunk(b"IHDR", b"size"), chunk(b"PLTE", &vec![7; length]), chunk(b"IDAT", b"pixels")]);
            assert_eq!(check(&palette).is_ok(), fits, "{length} bytes");
        }
        assert!(check(b"\x89PNG").is_ok(), "left to the decoder");
    }

    #[test]
    fn a_chunk_that_is_not_whole_is_left_to_the_decoder() {
        let whole = png(&[chunk(b"tEXt", b"x"), chunk(b"IDAT", b"pixels")]);
        let rest = png(&[chunk(b"IDAT", b"pixels")]);
        for cut in 1..rest.len() - SIGNATURE {
            assert_eq!(*without_metadata(&whole[..whole.len() - cut]), rest[..rest.len() - cut], "{cut} bytes missing");
        }
        let endless = [&u32::MAX.to_be_bytes()[..], b"iCCP", b"x"].concat();
        assert_eq!(*without_metadata(&png(std::slice::from_ref(&endless))), png(&[endless]));
        for short in 0..SIGNATURE {
            assert_eq!(*without_metadata(&whole[..short]), whole[..short]);
        }
    }
}
