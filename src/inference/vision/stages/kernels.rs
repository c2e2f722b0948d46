//! The arithmetic of the stages, on rows of an image in fp32.
//!
//! A row is a sequence of blocks: a block holds one pixel's values of [`LANES`] channels. The blocks of the same
//! channels are contiguous, so a row of `side` pixels and `channels` channels is
//! `[channels / LANES][side + 2][LANES]`, with a pixel of zeros at either end.
//!
//! Each function is compiled for several instruction sets; the best one that the CPU supports is chosen at run time.

use multiversion::multiversion;

/// Number of channels that are computed together: as many as fit into one AVX-512 register.
pub const LANES: usize = 16;

/// The values of [`LANES`] channels at one pixel, in one cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub struct Block(pub [f32; LANES]);

impl Block {
    /// Zero in each lane.
    pub const ZERO: Self = Self([0.0; LANES]);
}

/// How a tensor is stored as u8: a value is `(byte - zero) * scale`.
#[derive(Clone, Copy, Debug)]
pub struct Quantisation {
    pub scale: f32,
    pub zero: f32,
}

/// 1.5 · 2²³: a float of this magnitude has no fraction, so adding it to a small number rounds that number to the
/// nearest integer, ties to even, and leaves the integer in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// Returns `a * b + c` in each lane.
#[inline(always)]
fn multiply_add(a: &Block, b: &Block, c: Block) -> Block {
    let mut sum = c;
    for lane in 0..LANES {
        sum.0[lane] = a.0[lane].mul_add(b.0[lane], c.0[lane]);
    }
    sum
}

/// Computes PReLU (He et al. 2015): multiplies a negative value by the channel's slope.
#[inline(always)]
fn prelu(value: Block, slope: &Block) -> Block {
    let mut active = value;
    for lane in 0..LANES {
        active.0[lane] = value.0[lane].max(0.0) + slope.0[lane] * value.0[lane].min(0.0);
    }
    active
}

#[inline(always)]
fn quantise(value: Block, per_unit: f32, zero: f32, bytes: &mut [u8; LANES]) {
    for (byte, value) in bytes.iter_mut().zip(value.0) {
        *byte = (value.mul_add(per_unit, zero).clamp(0.0, 255.0) + ROUND).to_bits() as u8;
    }
}

#[inline(always)]
fn dequantise(bytes: &[u8; LANES], from: Quantisation) -> Block {
    Block(bytes.map(|byte| (f32::from(byte) - from.zero) * from.scale))
}

/// Applies PReLU to the bytes of a row of pixels, `[side][channels]`, and writes the result into `row`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn activate(pixels: &[u8], from: Quantisation, slope: &[Block], row: &mut [Block]) {
    let channels = slope.len() * LANES;
    let pitch = row.len() / slope.len();
    for (index, (slope, blocks)) in slope.iter().zip(row.chunks_exact_mut(pitch)).enumerate() {
        let bytes = pixels.chunks_exact(channels).filter_map(|pixel| pixel.as_chunks::<LANES>().0.get(index));
        for (block, bytes) in blocks[1..].iter_mut().zip(bytes) {
            *block = prelu(dequantise(bytes, from), slope);
        }
    }
}

/// Computes `PReLU(pixels) * factor + offset` from bytes to bytes, both `[pixels][channels]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn activate_and_scale(
    pixels: &[u8],
    from: Quantisation,
    [slope, factor, offset]: [&[Block]; 3],
    to: Quantisation,
    result: &mut [u8],
) {
    let (channels, per_unit) = (slope.len() * LANES, to.scale.recip());
    for (pixel, result) in pixels.chunks_exact(channels).zip(result.chunks_exact_mut(channels)) {
        let blocks = pixel.as_chunks::<LANES>().0.iter().zip(result.as_chunks_mut::<LANES>().0);
        for ((bytes, result), ((slope, factor), offset)) in blocks.zip(slope.iter().zip(factor).zip(offset)) {
            let active = prelu(dequantise(bytes, from), slope);
            quantise(multiply_add(&active, factor, *offset), per_unit, to.zero, result);
        }
    }
}

/// The parameters of a 3 × 3 depthwise convolution for [`LANES`] channels, and of the PReLU after it.
#[derive(Clone, Copy)]
pub struct Depthwise {
    /// By row, then by column.
    pub weight: [Block; 9],
    pub bias: Block,
    pub slope: Block,
}

/// Applies the depthwise convolution and PReLU to three rows, and writes the bytes of one row, `[side][channels]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn depthwise(
    rows: [&[Block]; 3],
    stride: usize,
    channel_blocks: &[Depthwise],
    to: Quantisation,
    result: &mut [u8],
) {
    let (channels, per_unit) = (channel_blocks.len() * LANES, to.scale.recip());
    let pitch = rows[0].len() / channel_blocks.len();
    for (index, &Depthwise { weight, bias, slope }) in channel_blocks.iter().enumerate() {
        let windows = |row: usize| rows[row][index * pitch..][..pitch].array_windows::<3>().step_by(stride);
        let pixels = result.chunks_exact_mut(channels).filter_map(|p| p.as_chunks_mut::<LANES>().0.get_mut(index));
        for (((above, middle), below), bytes) in windows(0).zip(windows(1)).zip(windows(2)).zip(pixels) {
            let mut sum = bias;
            for (column, block) in above.iter().enumerate() {
                sum = multiply_add(block, &weight[column], sum);
            }
            for (column, block) in middle.iter().enumerate() {
                sum = multiply_add(block, &weight[3 + column], sum);
            }
            for (column, block) in below.iter().enumerate() {
                sum = multiply_add(block, &weight[6 + column], sum);
            }
            quantise(prelu(sum, &slope), per_unit, to.zero, bytes);
        }
    }
}

/// The parameters of the first convolution, of 3 × 3 pixels in 3 planes, for [`LANES`] channels, and of the PReLU after
/// it.
pub struct FirstConvolution {
    /// By plane, then by row, then by column.
    pub weight: [Block; 27],
    pub bias: Block,
    pub slope: Block,
}

/// Number of pixels that [`first_convolution`] computes together, so that a weight is loaded once for all of them. The
/// side of the image is a multiple of it.
pub const PIXELS: usize = 4;

/// Applies the convolution and PReLU to the `planes` of an image, and writes one row. Row `y` of a plane begins at
/// `y * (side + 2)`; the image is zero-padded.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn first_convolution(planes: [&[f32]; 3], y: usize, channel_blocks: &[FirstConvolution], row: &mut [Block]) {
    let pitch = row.len() / channel_blocks.len();
    for (FirstConvolution { weight, bias, slope }, blocks) in channel_blocks.iter().zip(row.chunks_exact_mut(pitch)) {
        for (x, blocks) in blocks[1..pitch - 1].as_chunks_mut::<PIXELS>().0.iter_mut().enumerate() {
            let mut sums = [*bias; PIXELS];
            let mut weights = weight.iter();
            for plane in planes {
                for ky in 0..3 {
                    let pixels = &plane[(y + ky) * pitch + x * PIXELS..][..PIXELS + 2];
                    for kx in 0..3 {
                        let Some(weight) = weights.next() else { return };
                        for (sum, &pixel) in sums.iter_mut().zip(&pixels[kx..]) {
                            *sum = multiply_add(&Block([pixel; LANES]), weight, *sum);
                        }
                    }
                }
            }
            for (block, sum) in blocks.iter_mut().zip(sums) {
                *block = prelu(sum, slope);
            }
        }
    }
}
