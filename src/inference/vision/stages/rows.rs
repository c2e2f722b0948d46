//! A depthwise convolution of an image whose rows are computed one after the other, so that the data between two
//! operators stay in the cache.

use super::kernels::{self, Block, Depthwise, LANES, Quantisation};

/// The three rows around the current one, in the layout of [`kernels`].
pub struct Rows {
    rows: [Vec<Block>; 3],
    zeros: Vec<Block>,
}

impl Rows {
    /// Creates the rows for an image of `side` × `side` pixels and `channel_blocks` blocks of channels.
    pub fn new(side: usize, channel_blocks: usize) -> Self {
        let zeros = vec![Block::ZERO; (side + 2) * channel_blocks];
        Self { rows: std::array::from_fn(|_| zeros.clone()), zeros }
    }
}

/// A 3 × 3 depthwise convolution of a zero-padded image, and the PReLU after it.
pub struct Convolution {
    side: usize,
    stride: usize,
    channel_blocks: Vec<Depthwise>,
    output: Quantisation,
}

impl Convolution {
    /// Creates the convolution of an image of `side` × `side` pixels.
    pub fn new(side: usize, stride: usize, channel_blocks: Vec<Depthwise>, output: Quantisation) -> Self {
        Self { side, stride, channel_blocks, output }
    }

    /// Returns the number of blocks of channels.
    pub fn channel_blocks(&self) -> usize {
        self.channel_blocks.len()
    }

    /// Returns the number of rows and columns of the result.
    pub fn shape(&self) -> [usize; 2] {
        [self.side.div_ceil(self.stride).pow(2), self.channel_blocks.len() * LANES]
    }

    /// Computes the result, `[pixels][channels]`. `row` computes one row of the image, by its number, and leaves the
    /// pixels of zeros at its ends as they are.
    pub fn run(&self, rows: &mut Rows, mut row: impl FnMut(usize, &mut [Block]), result: &mut [u8]) {
        let pitch = self.side.div_ceil(self.stride) * self.channel_blocks.len() * LANES;
        let mut computed = 0; // rows of the image
        for (y, result) in (0..self.side).step_by(self.stride).zip(result.chunks_exact_mut(pitch)) {
            while computed < self.side.min(y + 2) {
                row(computed, &mut rows.rows[computed % 3]);
                computed += 1;
            }
            let at = |y: Option<usize>| match y {
                Some(y) if y < self.side => rows.rows[y % 3].as_slice(),
                _ => rows.zeros.as_slice(),
            };
            let around = [at(y.checked_sub(1)), at(Some(y)), at(Some(y + 1))];
            kernels::depthwise(around, self.stride, &self.channel_blocks, self.output, result);
        }
    }
}
