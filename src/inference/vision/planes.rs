//! Converts interleaved RGB pixels to the planes that models take.

/// Fills `out` with the planes blue, green and red, of shape [3, height, width] as in `padded` (width, height), from
/// rows of `width` pixels. Levels stay 0 to 255; what is right of the image and below it is zero.
pub fn fill_bgr(out: &mut Vec<f32>, rgb: &[u8], width: usize, padded: (u32, u32)) {
    let (padded_width, padded_height) = (padded.0 as usize, padded.1 as usize);
    let plane = padded_width * padded_height;
    out.clear();
    out.resize(3 * plane, 0.0);
    let (blue, rest) = out.split_at_mut(plane);
    let (green, red) = rest.split_at_mut(plane);
    for (row, line) in rgb.chunks_exact(3 * width).enumerate() {
        let cells = row * padded_width..row * padded_width + width;
        let planes = blue[cells.clone()].iter_mut().zip(&mut green[cells.clone()]).zip(&mut red[cells]);
        for (pixel, ((b, g), r)) in line.chunks_exact(3).zip(planes) {
            *r = f32::from(pixel[0]);
            *g = f32::from(pixel[1]);
            *b = f32::from(pixel[2]);
        }
    }
}

/// Fills `out` with the planes red, green and blue of all pixels: levels from 0 to 1, less the `mean` of their channel,
/// divided by its standard deviation `std`.
pub fn fill_normalised_rgb(out: &mut [f32], rgb: &[u8], mean: [f32; 3], std: [f32; 3]) {
    let plane = rgb.len() / 3;
    for (at, pixel) in rgb.chunks_exact(3).enumerate() {
        for (channel, level) in pixel.iter().enumerate() {
            out[channel * plane + at] = (f32::from(*level) / 255.0 - mean[channel]) / std[channel];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_planar_bgr_with_zeros_right_and_below() {
        let mut out = vec![9.0; 5];
        fill_bgr(&mut out, &[1, 2, 3, 4, 5, 6], 2, (32, 32));
        assert_eq!(out.len(), 3 * 1024);
        assert_eq!([out[0], out[1], out[2], out[32]], [3.0, 6.0, 0.0, 0.0]);
        assert_eq!([out[1024], out[1025], out[2048], out[2049]], [2.0, 5.0, 1.0, 4.0]);
    }

    #[test]
    fn each_channel_is_normalised_by_its_own_mean_and_deviation() {
        let mut out = [9.0; 6];
        fill_normalised_rgb(&mut out, &[255, 0, 51, 0, 255, 255], [0.0, 0.5, 0.2], [1.0, 0.5, 0.1]);
        assert_eq!(out, [1.0, 0.0, -1.0, 1.0, 0.0, 8.0]);
    }
}
