//! JPEG, PNG and WebP images are decoded as phones and cameras write them; files that are in another format, damaged or
//! too large are refused with a reason.

use std::io::Cursor;

use crate::support::{cosine, recogniser, sample, see, settings};
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder as _, ImageEncoder as _, ImageFormat, codecs, metadata::Orientation,
};
use rollcall::inference::vision::{
    decode::{decode, inspect},
    decode_error::{DecodeError, Fault},
};

const MAX_PIXELS: u64 = 50_000_000;

fn gradient(width: u32, height: u32) -> DynamicImage {
    image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, (x + y) as u8])).into()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn fault(result: Result<impl Sized, DecodeError>) -> Fault {
    result.err().expect("an error").fault
}

/// Returns EXIF data that contains this orientation and nothing else.
fn exif(orientation: u8) -> Vec<u8> {
    [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(), &[orientation], &[0; 7]].concat()
}

/// Returns a JPEG with this orientation in an EXIF segment.
fn oriented(image: &DynamicImage, orientation: u8) -> Vec<u8> {
    let mut jpeg = Vec::new();
    codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 97).encode_image(image).unwrap();
    let exif = [b"Exif\0\0".as_slice(), &exif(orientation)].concat();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn jpeg_png_and_webp_are_detected_by_content() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let bytes = encoded(&gradient(40, 30), format);
        let info = inspect(&bytes, MAX_PIXELS).unwrap();
        assert_eq!((info.width, info.height, info.format), (40, 30, format));
        assert_eq!(decode(&bytes, MAX_PIXELS).unwrap().dimensions(), (40, 30));
    }
}

#[test]
fn grey_alpha_and_16_bit_images_become_rgb() {
    let colour = gradient(32, 24);
    for image in [
        DynamicImage::from(colour.to_luma8()),
        colour.to_luma16().into(),
        colour.to_luma_alpha8().into(),
        colour.to_rgba8().into(),
        colour.to_rgb16().into(),
        colour.to_rgba16().into(),
    ] {
        let decoded = decode(&encoded(&image, ImageFormat::Png), MAX_PIXELS).unwrap();
        let wanted = image.to_rgb8();
        assert!(decoded.as_raw().iter().zip(wanted.as_raw()).all(|(a, b)| a.abs_diff(*b) <= 1), "{:?}", image.color());
    }
    let mut grey = Vec::new();
    let luma = colour.to_luma8();
    let encoder = codecs::jpeg::JpegEncoder::new(&mut grey);
    encoder.write_image(luma.as_raw(), 32, 24, ExtendedColorType::L8).unwrap();
    assert_eq!(decode(&grey, MAX_PIXELS).unwrap().dimensions(), (32, 24));
}

#[test]
fn unsupported_files_are_refused_and_the_error_names_the_supported_formats() {
    let gif = b"GIF89a\x01\0\x01\0\0\0\0;".as_slice();
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".as_slice();
    for bytes in [b"".as_slice(), b"hello, I am called photo.jpg", gif, heic, b"%PDF-1.7", &[0; 64]] {
        let failure = inspect(bytes, MAX_PIXELS).unwrap_err();
        assert_eq!(failure.fault, Fault::Unsupported, "{failure}");
        assert!(failure.message.contains("JPEG, PNG or WebP"), "{failure}");
    }
}

#[test]
fn a_photo_cut_short_anywhere_is_damaged() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let whole = encoded(&gradient(64, 64), format);
        for share in [20, 50, 80, 95, 99] {
            let cut = &whole[..whole.len() * share / 100];
            assert_eq!(fault(decode(cut, MAX_PIXELS)), Fault::Damaged, "{format:?} cut to {share} %");
        }
    }
    let jpeg = encoded(&gradient(64, 64), ImageFormat::Jpeg);
    for length in 3..jpeg.len() {
        assert_eq!(fault(inspect(&jpeg[..length], MAX_PIXELS)), Fault::Damaged, "JPEG cut to {length} bytes");
    }
}

#[test]
fn trailing_bytes_and_thumbnails_do_not_affect_where_a_jpeg_ends() {
    let jpeg = encoded(&gradient(64, 64), ImageFormat::Jpeg);
    assert!(inspect(&[&jpeg, b"appended by a camera".as_slice()].concat(), MAX_PIXELS).is_ok());
    // A whole small JPEG inside an APP1 segment, as EXIF thumbnails are; then the outer one is cut.
    let thumbnail = encoded(&gradient(8, 8), ImageFormat::Jpeg);
    let length = (thumbnail.len() as u16 + 2).to_be_bytes();
    let with = [&jpeg[..2], &[0xFF, 0xE1], &length, &thumbnail, &jpeg[2..]].concat();
    assert_eq!(inspect(&with, MAX_PIXELS).unwrap().width, 64);
    assert_eq!(fault(inspect(&with[..with.len() - 2], MAX_PIXELS)), Fault::Damaged);
}

#[test]
fn a_damaged_byte_never_causes_a_panic() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let whole = encoded(&gradient(32, 32), format);
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0xFF;
            if let Err(failure) = decode(&broken, 1_000_000) {
                assert!(!failure.message.is_empty());
            }
        }
    }
}

#[test]
fn too_many_pixels_are_refused_from_the_header_with_the_limit_named() {
    // The header claims 10,000 x 10,000 pixels, as that of a decompression bomb does.
    let mut png = encoded(&gradient(1, 1), ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 0, 0x27, 0x10, 0, 0, 0x27, 0x10]);
    let checksum = crc32(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&checksum);
    let mut jpeg = encoded(&gradient(16, 16), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x27, 0x10, 0x27, 0x10]);
    for bytes in [png, jpeg] {
        let failure = inspect(&bytes, MAX_PIXELS).unwrap_err();
        assert_eq!(failure.fault, Fault::TooLarge);
        assert!(failure.message.contains("10000 x 10000") && failure.message.contains("50000000"), "{failure}");
        assert_eq!(fault(decode(&bytes, MAX_PIXELS)), Fault::TooLarge);
    }
    // 16-bit RGBA takes twice the memory of 8-bit RGBA, so half the pixels are allowed.
    let deep = encoded(&DynamicImage::from(gradient(100, 80).to_rgba16()), ImageFormat::Png);
    assert_eq!(fault(inspect(&deep, 10_000)), Fault::TooLarge);
    assert!(decode(&deep, 16_000).is_ok());
}

#[test]
fn a_side_is_limited_even_if_the_pixels_are_few() {
    for (width, height) in [(65_536, 1), (1, 65_536)] {
        let long = encoded(&image::GrayImage::new(width, height).into(), ImageFormat::Png);
        let failure = inspect(&long, MAX_PIXELS).unwrap_err();
        assert_eq!(failure.fault, Fault::TooLarge);
        assert!(
            failure.message.contains(&format!("{width} x {height}")) && failure.message.contains("65535"),
            "{failure}"
        );
        assert_eq!(fault(decode(&long, MAX_PIXELS)), Fault::TooLarge);
    }
    let longest = encoded(&image::GrayImage::new(65_535, 1).into(), ImageFormat::Png);
    assert_eq!(decode(&longest, MAX_PIXELS).unwrap().dimensions(), (65_535, 1));
}

#[test]
fn a_colour_profile_takes_no_memory() {
    // 64 MiB of zeros, compressed to a small fraction of that: the IDAT data of a black image, used as the colour profile
    // of a small one.
    let black = encoded(&image::GrayImage::new(8192, 8192).into(), ImageFormat::Png);
    let mut compressed = Vec::new();
    let mut at = 8;
    while at < black.len() {
        let length = u32::from_be_bytes(black[at..at + 4].try_into().unwrap()) as usize;
        if &black[at + 4..at + 8] == b"IDAT" {
            compressed.extend_from_slice(&black[at + 8..at + 8 + length]);
        }
        at += 12 + length;
    }
    let profile = [b"x\0\0".as_slice(), &compressed].concat();
    let png = with_chunk(&encoded(&gradient(8, 8), ImageFormat::Png), b"iCCP", &profile);
    drop((black, compressed));

    // Resets the peak (proc(5)). With cargo-nextest, the process runs no other test.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS");
    assert!(decode(&png, MAX_PIXELS).is_ok(), "the profile is not used");
    let peak = memory("VmHWM").saturating_sub(before); // the kernel counts in batches, so the peak may read lower than `before`
    assert!(peak < 8 << 20, "{peak} bytes for 64 pixels");
}

/// Returns a memory size of this process, in bytes (proc(5), `/proc/pid/status`).
fn memory(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Adds a chunk to a PNG, after its header.
fn with_chunk(png: &[u8], name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let chunk = [name.as_slice(), data].concat();
    let (length, checksum) = ((data.len() as u32).to_be_bytes(), crc32(&chunk).to_be_bytes());
    [&png[..33], &length, &chunk, &checksum, &png[33..]].concat()
}

/// Returns the checksum of a PNG chunk (PNG specification, annex D).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}

#[test]
fn a_photo_without_width_or_height_is_damaged() {
    let mut jpeg = encoded(&gradient(16, 16), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 7].copy_from_slice(&[0, 0]);
    assert_eq!(fault(decode(&jpeg, MAX_PIXELS)), Fault::Damaged);
    let mut png = encoded(&gradient(1, 1), ImageFormat::Png);
    png[16..20].copy_from_slice(&[0; 4]);
    let checksum = crc32(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&checksum);
    assert_eq!(fault(decode(&png, MAX_PIXELS)), Fault::Damaged);
}

#[test]
fn faces_are_located_in_the_upright_image_for_every_orientation() {
    let upright = image::load_from_memory(&sample("person_a_2.jpg")).unwrap().thumbnail(400, 400);
    let mut recogniser = recogniser(&settings());
    let expected = see(recogniser.as_mut(), &oriented(&upright, 1)).unwrap();
    assert_eq!(expected.faces.len(), 1);
    for exif in 1..=8 {
        let undo = match Orientation::from_exif(exif).unwrap() {
            Orientation::Rotate90 => Orientation::Rotate270,
            Orientation::Rotate270 => Orientation::Rotate90,
            same => same,
        };
        let mut stored = upright.clone();
        stored.apply_orientation(undo);
        let seen = see(recogniser.as_mut(), &oriented(&stored, exif)).unwrap();
        assert_eq!((seen.width, seen.height), (expected.width, expected.height), "orientation {exif}");
        let (face, want) = (&seen.faces[0], &expected.faces[0]);
        for (got, want) in face.bbox.iter().zip(&want.bbox) {
            assert!((got - want).abs() <= 1.5, "orientation {exif}: {:?}", face.bbox);
        }
        let similarity = cosine(face.embedding.as_ref().unwrap(), want.embedding.as_ref().unwrap());
        assert!(similarity > 0.99, "orientation {exif}: {similarity}");
    }
}

#[test]
fn the_orientation_in_a_png_or_a_webp_is_applied_as_well() {
    let stored = gradient(40, 30);
    for orientation in 1..=8 {
        let mut upright = stored.clone();
        upright.apply_orientation(Orientation::from_exif(orientation).unwrap());
        let png = with_chunk(&encoded(&stored, ImageFormat::Png), b"eXIf", &exif(orientation));
        let mut webp = Vec::new();
        let mut encoder = codecs::webp::WebPEncoder::new_lossless(&mut webp);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        stored.write_with_encoder(encoder).unwrap();
        for (format, bytes) in [("PNG", png), ("WebP", webp)] {
            let same = decode(&bytes, MAX_PIXELS).unwrap() == upright.to_rgb8();
            assert!(same, "{format} with orientation {orientation}");
        }
    }
}

#[test]
fn big_photos_are_shrunk_for_detection_but_boxes_refer_to_the_original() {
    let photo = image::load_from_memory(&sample("person_a_2.jpg")).unwrap();
    let big = photo.resize(photo.width() * 3, photo.height() * 3, image::imageops::FilterType::Triangle);
    let mut recogniser = recogniser(&settings());
    let small = see(recogniser.as_mut(), &encoded(&photo, ImageFormat::Png)).unwrap();
    let large = see(recogniser.as_mut(), &encoded(&big, ImageFormat::Png)).unwrap();
    assert_eq!((large.width, large.faces.len()), (big.width(), small.faces.len()));
    let tolerance = 0.03 * large.faces[0].bbox[2];
    for (l, s) in large.faces[0].bbox.iter().zip(&small.faces[0].bbox) {
        assert!((l - 3.0 * s).abs() < tolerance, "{:?} and {:?}", large.faces[0].bbox, small.faces[0].bbox);
    }
}

#[test]
fn faces_are_largest_first() {
    let face = |name: &str, width| {
        let photo = image::load_from_memory(&sample(name)).unwrap();
        photo.resize(width, 4 * width, image::imageops::FilterType::Triangle).to_rgb8()
    };
    let mut recogniser = recogniser(&settings());
    for (large, small) in [("person_a_2.jpg", "person_b_2.jpg"), ("person_b_2.jpg", "person_a_2.jpg")] {
        let (large, small) = (face(large, 420), face(small, 200));
        let mut both = image::RgbImage::new(640, large.height().max(small.height()));
        image::imageops::replace(&mut both, &small, 0, 0);
        image::imageops::replace(&mut both, &large, 210, 0);
        let seen = see(recogniser.as_mut(), &encoded(&both.into(), ImageFormat::Png)).unwrap();
        assert_eq!(seen.faces.len(), 2);
        let [first, second] = [0, 1].map(|i| seen.faces[i].bbox);
        assert!(first[2] * first[3] > second[2] * second[3] && first[0] > second[0], "{first:?} {second:?}");
    }
}

#[test]
fn images_of_any_shape_without_a_face_are_labelled_no_face() {
    let mut recogniser = recogniser(&settings());
    for (width, height) in [(1, 1), (1, 3000), (3000, 1), (33, 31), (640, 640)] {
        let seen = see(recogniser.as_mut(), &encoded(&gradient(width, height), ImageFormat::Png)).unwrap();
        assert_eq!((seen.label.as_str(), seen.width, seen.height), ("no face", width, height));
    }
}

#[test]
fn a_fixed_size_detector_finds_the_same_faces() {
    // The same model with its input fixed to 640 x 640, as in the OpenCV Zoo. Each symbolic dimension (`dim_param`, tag
    // 0x12) of the ONNX protobuf is overwritten with a `dim_value` (tag 0x08) of 640, a varint padded to the same length.
    let mut settings = settings();
    let mut model = std::fs::read(&settings.recognition.detector).unwrap();
    for name in ["height", "width"] {
        let free = [&[0x12, name.len() as u8], name.as_bytes()].concat();
        let at = model.windows(free.len()).position(|w| w == free).expect("a free dimension");
        let mut fixed = vec![0x80; free.len()];
        (fixed[0], fixed[2], fixed[free.len() - 1]) = (0x08, 0x85, 0x00);
        model[at..at + free.len()].copy_from_slice(&fixed);
    }
    let photo = sample("person_b_1.jpg");
    let expected = see(recogniser(&settings).as_mut(), &photo).unwrap();
    let fixed = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&fixed, model).unwrap();
    settings.recognition.detector = fixed.path().to_owned();
    let seen = see(recogniser(&settings).as_mut(), &photo).unwrap();
    assert_eq!(seen.faces.len(), expected.faces.len());
    for (got, want) in seen.faces[0].bbox.iter().zip(&expected.faces[0].bbox) {
        assert!((got - want).abs() <= 1.5, "{:?} and {:?}", seen.faces[0].bbox, expected.faces[0].bbox);
    }
    let other = see(recogniser(&settings).as_mut(), &encoded(&gradient(2000, 500), ImageFormat::Png)).unwrap();
    assert_eq!(other.label, "no face");
}

#[test]
fn the_first_frame_of_an_animation_is_decoded() {
    let still = encoded(&gradient(16, 16), ImageFormat::WebP);
    let frame = &still[12..];
    let chunk = |name: &[u8], data: &[u8]| [name, &(data.len() as u32).to_le_bytes(), data].concat();
    let header = chunk(b"VP8X", &[0x02, 0, 0, 0, 15, 0, 0, 15, 0, 0]);
    let position = [0, 0, 0, 0, 0, 0, 15, 0, 0, 15, 0, 0, 100, 0, 0, 0];
    let frames = chunk(b"ANMF", &[position.as_slice(), frame].concat());
    let body = [header, chunk(b"ANIM", &[0; 6]), frames.clone(), frames].concat();
    let animated = [b"RIFF".as_slice(), &(body.len() as u32 + 4).to_le_bytes(), b"WEBP", &body].concat();
    let decoder = codecs::webp::WebPDecoder::new(Cursor::new(&animated)).unwrap();
    assert!(decoder.has_animation() && decoder.dimensions() == (16, 16));
    let (first, wanted) = (decode(&animated, MAX_PIXELS).unwrap(), gradient(16, 16).to_rgb8());
    // Drawing the frame on its background causes rounding.
    assert!(first.as_raw().iter().zip(wanted.as_raw()).all(|(a, b)| a.abs_diff(*b) <= 1));
}
