//! The photos of the benchmark, made from the sample photos, and those of LFW where they are available.

use std::{env, fs, path::PathBuf, sync::Arc};

use bytes::Bytes;
use image::{DynamicImage, ImageFormat, RgbImage, imageops::FilterType};
use rollcall_testing::{
    assets::{photos_below, root, sample_photos},
    uploads::encode,
};

use super::bare::Photos;

/// Side of a small photo of one face, in pixels: that of LFW.
const SMALL: u32 = 250;
/// Width and height of a photo of 12 megapixels.
const LARGE: (u32, u32) = (4000, 3000);

/// Photos of one kind.
pub struct Kind {
    pub name: &'static str,
    /// Number of faces in each photo; `None` if it varies.
    pub faces: Option<usize>,
    pub photos: Photos,
}

/// Returns every kind of photo.
pub fn all() -> Vec<Kind> {
    let samples: Vec<DynamicImage> = sample_photos().iter().map(|p| image::open(p).expect("a photo")).collect();
    let tiles: Vec<RgbImage> = samples.iter().map(|photo| fitted(photo, SMALL, SMALL)).collect();
    let large = |photo: &DynamicImage| fitted(photo, LARGE.0, LARGE.1);
    let mut kinds = vec![
        kind("tiny, no face", 0, vec![RgbImage::from_pixel(32, 32, image::Rgb([90, 120, 90]))]),
        kind("1 face", 1, tiles.clone()),
        kind("2 faces", 2, (0..6).map(|i| joined(&tiles, i, 2, 1)).collect()),
        kind("4 faces", 4, (0..6).map(|i| joined(&tiles, i, 2, 2)).collect()),
        kind("12 megapixels, 1 face", 1, samples.iter().map(large).collect()),
    ];
    kinds.extend(lfw());
    kinds
}

fn kind(name: &'static str, faces: usize, images: Vec<RgbImage>) -> Kind {
    let photos = images.into_iter().map(|image| encode(image.into(), ImageFormat::Jpeg).into()).collect();
    Kind { name, faces: Some(faces), photos: Arc::new(photos) }
}

/// Scales a photo to fit, in the middle of a grey image of that size.
fn fitted(photo: &DynamicImage, width: u32, height: u32) -> RgbImage {
    let scaled = photo.resize(width, height, FilterType::Triangle).to_rgb8();
    let mut fitted = RgbImage::from_pixel(width, height, image::Rgb([128; 3]));
    let (x, y) = ((width - scaled.width()) / 2, (height - scaled.height()) / 2);
    image::imageops::replace(&mut fitted, &scaled, x.into(), y.into());
    fitted
}

/// Joins different tiles, beginning with number `first`, into one photo.
fn joined(tiles: &[RgbImage], first: usize, columns: u32, rows: u32) -> RgbImage {
    let mut photo = RgbImage::new(columns * SMALL, rows * SMALL);
    for (at, tile) in tiles.iter().cycle().skip(first).take((columns * rows) as usize).enumerate() {
        let (column, row) = (at as u32 % columns, at as u32 / columns);
        image::imageops::replace(&mut photo, tile, (column * SMALL).into(), (row * SMALL).into());
    }
    photo
}

/// Returns LFW's photos in `ROLLCALL_LFW`, or in `../shared/photos/lfw`.
fn lfw() -> Option<Kind> {
    let folder = env::var_os("ROLLCALL_LFW").map_or_else(|| root().join("../shared/photos/lfw"), PathBuf::from);
    let folder = folder.join("probes");
    let paths = folder.is_dir().then(|| photos_below(folder))?;
    let photos = paths.iter().map(|path| fs::read(path).map(Bytes::from)).collect::<Result<Vec<_>, _>>().ok()?;
    (!photos.is_empty()).then(|| Kind { name: "LFW", faces: None, photos: Arc::new(photos) })
}
