use super::{
    kernels::{self, Block, Depthwise, FirstConvolution, LANES, Quantisation},
    rows::{Convolution, Rows},
};

const INPUT: Quantisation = Quantisation { scale: 0.05, zero: 100.0 };
const OUTPUT: Quantisation = Quantisation { scale: 0.04, zero: 90.0 };

/// Returns pseudo-random numbers within ± `size`, the same ones for the same seed.
fn numbers(seed: u64, count: usize, size: f32) -> Vec<f32> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * size
    };
    (0..count).map(|_| next()).collect()
}

fn bytes(seed: u64, count: usize) -> Vec<u8> {
    numbers(seed, count, 127.0).into_iter().map(|number| (number + 128.0) as u8).collect()
}

fn blocks(values: &[f32]) -> Vec<Block> {
    values.as_chunks::<LANES>().0.iter().copied().map(Block).collect()
}

fn prelu(value: f32, slope: f32) -> f32 {
    if value < 0.0 { value * slope } else { value }
}

fn quantised(value: f32) -> u8 {
    ((value / OUTPUT.scale).round_ties_even() + OUTPUT.zero).clamp(0.0, 255.0) as u8
}

/// Asserts that two results are almost equal: a product that is rounded once less may round to the next byte.
fn assert_alike(found: &[u8], expected: &[u8]) {
    let differ = found.iter().zip(expected).filter(|(found, expected)| found != expected).count();
    assert!(found.iter().zip(expected).all(|(found, expected)| found.abs_diff(*expected) <= 1));
    assert!(differ * 100 <= expected.len(), "{differ} of {} bytes differ", expected.len());
    let distinct: std::collections::HashSet<_> = expected.iter().collect();
    assert!(distinct.len() > 50 && found.len() == expected.len(), "the example is not trivial");
}

/// A depthwise convolution exactly as it is defined: `[side][side][channels]`, zero-padded.
struct Plain {
    side: usize,
    channels: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
    slope: Vec<f32>,
}

impl Plain {
    fn new(side: usize, channels: usize) -> Self {
        let [bias, slope] = [2, 3].map(|seed| numbers(seed, channels, 0.9));
        Self { side, channels, weight: numbers(1, 9 * channels, 0.5), bias, slope }
    }

    fn run(&self, image: &[f32], stride: usize) -> Vec<u8> {
        let Self { side, channels, weight, bias, slope } = self;
        let pixel = |y: usize, x: usize, channel: usize| {
            let inside = (1..=*side).contains(&y) && (1..=*side).contains(&x);
            if inside { image[((y - 1) * side + x - 1) * channels + channel] } else { 0.0 }
        };
        let mut result = Vec::new();
        for y in (0..*side).step_by(stride) {
            for x in (0..*side).step_by(stride) {
                for channel in 0..*channels {
                    let taps = (0..9).map(|t| pixel(y + t / 3, x + t % 3, channel) * weight[t * channels + channel]);
                    result.push(quantised(prelu(taps.sum::<f32>() + bias[channel], slope[channel])));
                }
            }
        }
        result
    }

    fn convolution(&self, stride: usize) -> Convolution {
        let (weight, bias, slope) = (blocks(&self.weight), blocks(&self.bias), blocks(&self.slope));
        let count = self.channels / LANES;
        let channel_block = |b: usize| Depthwise {
            weight: std::array::from_fn(|tap| weight[tap * count + b]),
            bias: bias[b],
            slope: slope[b],
        };
        Convolution::new(self.side, stride, (0..count).map(channel_block).collect(), OUTPUT)
    }
}

#[test]
fn a_depthwise_stage_is_prelu_then_convolution_then_prelu() {
    for (side, stride) in [(7, 1), (8, 1), (7, 2), (8, 2)] {
        let plain = Plain::new(side, 48);
        let (image, slope) = (bytes(4, side * side * 48), numbers(5, 48, 0.9));
        let active = image.iter().zip(slope.iter().cycle());
        let active = active.map(|(&byte, &slope)| prelu((f32::from(byte) - INPUT.zero) * INPUT.scale, slope));

        let convolution = plain.convolution(stride);
        let [pixels, channels] = convolution.shape();
        let (mut found, mut rows) = (vec![0; pixels * channels], Rows::new(side, 3));
        for _ in 0..2 {
            // The second face must not see the first one's rows.
            let row = |y: usize, row: &mut [Block]| {
                kernels::activate(&image[y * side * 48..][..side * 48], INPUT, &blocks(&slope), row);
            };
            convolution.run(&mut rows, row, &mut found);
            assert_alike(&found, &plain.run(&active.clone().collect::<Vec<_>>(), stride));
        }
    }
}

#[test]
fn the_first_convolution_is_over_all_planes() {
    const SIDE: usize = 8;
    let (weight, bias, slope) = (numbers(1, 27 * 32, 0.3), numbers(2, 32, 1.0), numbers(3, 32, 0.9));
    let image = numbers(4, 3 * SIDE * SIDE, 1.0);
    let mut planes: [Vec<f32>; 3] = std::array::from_fn(|_| vec![0.0; (SIDE + 2) * (SIDE + 2)]);
    for (at, value) in image.iter().enumerate() {
        let (plane, y, x) = (at / (SIDE * SIDE), at / SIDE % SIDE, at % SIDE);
        planes[plane][(y + 1) * (SIDE + 2) + x + 1] = *value;
    }
    let (weights, biases, slopes) = (blocks(&weight), blocks(&bias), blocks(&slope));
    let channel_block = |b: usize| FirstConvolution {
        weight: std::array::from_fn(|tap| weights[tap * 2 + b]),
        bias: biases[b],
        slope: slopes[b],
    };
    let channel_blocks = [channel_block(0), channel_block(1)];
    for y in 0..SIDE {
        let mut row = vec![Block::ZERO; 2 * (SIDE + 2)];
        kernels::first_convolution(planes.each_ref().map(Vec::as_slice), y, &channel_blocks, &mut row);
        for x in 0..SIDE {
            for channel in 0..32 {
                let tap = |t: usize| planes[t / 9][(y + t / 3 % 3) * (SIDE + 2) + x + t % 3] * weight[t * 32 + channel];
                let expected = prelu((0..27).map(tap).sum::<f32>() + bias[channel], slope[channel]);
                let found = row[channel / LANES * (SIDE + 2) + x + 1].0[channel % LANES];
                assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
            }
        }
        assert_eq!([row[0], row[SIDE + 1], row[SIDE + 2]], [Block::ZERO; 3], "the ends stay zero");
    }
}

#[test]
fn an_activation_stage_scales_what_prelu_returns() {
    let (image, slope) = (bytes(1, 49 * 32), numbers(2, 32, 0.9));
    let (factor, offset) = (numbers(3, 32, 1.5), numbers(4, 32, 1.0));
    let expected: Vec<u8> = (image.iter().enumerate())
        .map(|(at, &byte)| {
            let (value, channel) = ((f32::from(byte) - INPUT.zero) * INPUT.scale, at % 32);
            quantised(prelu(value, slope[channel]) * factor[channel] + offset[channel])
        })
        .collect();
    let mut found = vec![0; image.len()];
    let parameters = [&*blocks(&slope), &*blocks(&factor), &*blocks(&offset)];
    kernels::activate_and_scale(&image, INPUT, parameters, OUTPUT, &mut found);
    assert_alike(&found, &expected);
}
