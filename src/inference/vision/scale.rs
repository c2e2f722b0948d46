//! Scales images to the size that a model takes.

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};
use image::RgbImage;

/// Scales images with a bilinear filter, whose support grows with the reduction so that every pixel counts. It reuses
/// its buffers.
#[derive(Default)]
pub struct Scaler {
    resizer: Resizer,
    /// Interleaved RGB.
    scaled: Vec<u8>,
}

impl Scaler {
    /// Returns the interleaved RGB pixels of an image, scaled to `size` (width and height).
    ///
    /// # Errors
    /// The image has no pixels.
    pub fn scale(&mut self, image: &RgbImage, size: (u32, u32)) -> anyhow::Result<&[u8]> {
        self.run(image, size, ResizeOptions::new())
    }

    /// Does the same with a part of the image: `[left, top, width, height]`, in pixels.
    ///
    /// # Errors
    /// The part is empty, or extends beyond the image.
    pub fn scale_part(&mut self, image: &RgbImage, part: [f64; 4], size: (u32, u32)) -> anyhow::Result<&[u8]> {
        let [left, top, width, height] = part;
        self.run(image, size, ResizeOptions::new().crop(left, top, width, height))
    }

    fn run(&mut self, image: &RgbImage, (width, height): (u32, u32), options: ResizeOptions) -> anyhow::Result<&[u8]> {
        let options = options.resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        self.scaled.resize(3 * width as usize * height as usize, 0);
        // For this kind of pixel only: the library's function for any kind is compiled for each of a dozen.
        let from = TypedImageRef::<U8x3>::from_buffer(image.width(), image.height(), image.as_raw())?;
        let mut to = TypedImage::<U8x3>::from_buffer(width, height, &mut self.scaled)?;
        self.resizer.resize_typed(&from, &mut to, &options)?;
        Ok(&self.scaled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_of_a_reduced_image_counts() {
        let stripes = RgbImage::from_fn(64, 64, |x, _| image::Rgb([255 * (x % 2) as u8, 100, 0]));
        let mut scaler = Scaler::default();
        let scaled = scaler.scale(&stripes, (8, 8)).expect("pixels");
        assert_eq!(scaled.len(), 3 * 8 * 8);
        assert!(scaled.chunks_exact(3).all(|p| p[0].abs_diff(127) <= 5 && p[1] == 100 && p[2] == 0), "{scaled:?}");
    }

    #[test]
    fn scaling_a_part_does_not_depend_on_earlier_scaling() {
        let halves = RgbImage::from_fn(40, 30, |x, _| image::Rgb([if x < 20 { 7 } else { 200 }; 3]));
        let mut scaler = Scaler::default();
        scaler.scale(&halves, (9, 9)).expect("pixels");
        for (left, level, size) in [(5.0, 7, (5, 5)), (25.0, 200, (5, 5)), (25.0, 200, (20, 30))] {
            let scaled = scaler.scale_part(&halves, [left, 5.0, 10.0, 10.0], size).expect("a part");
            assert_eq!(scaled, vec![level; 3 * (size.0 * size.1) as usize]);
        }
        assert!(scaler.scale_part(&halves, [35.0, 5.0, 10.0, 10.0], (5, 5)).is_err(), "beyond the image");
    }
}
