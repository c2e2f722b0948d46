//! Operators for ONNX Runtime that compute what lies between the pointwise convolutions of the int8 embedder.
//!
//! ONNX Runtime computes those convolutions fast, but converts between two layouts and between u8 and fp32 around each
//! of the fp32 operators between them. Those fp32 operators and the conversions around them take longer than the
//! convolutions. Each stage does all of that in one pass over the pixels and returns u8; its input is u8, except for
//! the first stage, which takes the image in fp32. `tools/fuse_embedder.py` writes the graph that contains the stages.
//!
//! Every tensor between operators is a matrix `[faces * side * side, channels]`, except the output of
//! `ActivationStage`, which has one row per face.

mod kernels;
mod rows;

use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use kernels::{Block, Depthwise, FirstConvolution, LANES, Quantisation};
use rows::{Convolution, Rows};

/// Returns the operators for a session.
///
/// # Errors
/// Any error of ONNX Runtime.
pub fn domain() -> ort::Result<OperatorDomain> {
    OperatorDomain::new("rollcall")?.add(ImageStage)?.add(DepthwiseStage)?.add(ActivationStage)
}

/// Largest side and stride, so that a damaged file cannot request more memory than is available.
const MAX_DIMENSION: usize = 1024;

/// The attributes of a node.
struct Attributes<'a, 'info>(&'a KernelContext<'info>);

impl Attributes<'_, '_> {
    fn float(&self, name: &str) -> ort::Result<f32> {
        self.0.get(name).ok_or_else(|| missing(name))
    }

    /// Reads a side or a stride.
    fn dimension(&self, name: &str) -> ort::Result<usize> {
        let value: i64 = self.0.get(name).ok_or_else(|| missing(name))?;
        usize::try_from(value).ok().filter(|value| (1..=MAX_DIMENSION).contains(value)).ok_or_else(|| invalid(name))
    }

    /// Reads the per-channel values in blocks of [`LANES`].
    fn blocks(&self, name: &str) -> ort::Result<Vec<Block>> {
        let values: Vec<f32> = self.0.get(name).ok_or_else(|| missing(name))?;
        match values.as_chunks::<LANES>() {
            (blocks, []) if !blocks.is_empty() => Ok(blocks.iter().copied().map(Block).collect()),
            _ => Err(invalid(name)),
        }
    }

    /// Reads the weights of a convolution, `[taps][channels]`, as one array of taps for each block of channels.
    fn taps<const TAPS: usize>(&self, name: &str, channel_blocks: usize) -> ort::Result<Vec<[Block; TAPS]>> {
        let blocks = self.blocks(name)?;
        if blocks.len() != TAPS * channel_blocks {
            return Err(invalid(name));
        }
        let taps = |index: usize| std::array::from_fn(|tap| blocks[tap * channel_blocks + index]);
        Ok((0..channel_blocks).map(taps).collect())
    }

    fn quantisation(&self, tensor: &str) -> ort::Result<Quantisation> {
        let (scale, zero) = (format!("{tensor}_scale"), format!("{tensor}_zero"));
        let zero: i64 = self.0.get(&zero).ok_or_else(|| missing(&zero))?;
        Ok(Quantisation { scale: self.float(&scale)?, zero: zero as f32 })
    }

    fn convolution(&self, side: usize) -> ort::Result<Convolution> {
        let (bias, slope) = (self.blocks("bias")?, self.blocks("slope")?);
        let weights = self.taps("weight", bias.len())?;
        if slope.len() != bias.len() {
            return Err(invalid("slope"));
        }
        let channel_blocks = weights.into_iter().zip(bias).zip(slope);
        let channel_blocks = channel_blocks.map(|((weight, bias), slope)| Depthwise { weight, bias, slope }).collect();
        Ok(Convolution::new(side, self.dimension("stride")?, channel_blocks, self.quantisation("output")?))
    }
}

fn missing(name: &str) -> ort::Error {
    ort::Error::new(format!("attribute {name} is missing"))
}

fn invalid(name: &str) -> ort::Error {
    ort::Error::new(format!(
        "attribute {name} is invalid: out of range, not a supported multiple, or of a different length than the others"
    ))
}

/// Runs `stage` once per face, on its `size` input values and its `rows` × `columns` outputs.
fn compute<T: ort::value::PrimitiveTensorElementType + Clone>(
    context: &ComputeContext,
    size: usize,
    [rows, columns]: [usize; 2],
    mut stage: impl FnMut(&[T], &mut [u8]),
) -> ort::Result<()> {
    let missing = || ort::Error::new("the input or output tensor is missing");
    let input = context.input(0)?.ok_or_else(missing)?;
    let (_, input) = input.try_extract_tensor::<T>()?;
    if input.len() % size != 0 {
        return Err(ort::Error::new("the input's size does not match the attributes"));
    }
    let faces = input.len() / size;
    let mut output = context.output(0, [faces * rows, columns])?.ok_or_else(missing)?;
    let (_, output) = output.try_extract_tensor_mut::<u8>()?;
    for (face, result) in input.chunks_exact(size).zip(output.chunks_exact_mut(rows * columns)) {
        stage(face, result);
    }
    Ok(())
}

/// Declares an operator that turns a tensor of some type into one of u8.
macro_rules! operator {
    ($(#[$doc:meta])* $name:ident, $input:ident, $kernel:ty, $create:path) => {
        $(#[$doc])*
        struct $name;

        impl Operator for $name {
            type Kernel<'attr> = $kernel;

            fn name(&self) -> &str {
                stringify!($name)
            }

            fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
                [OperatorInput::required(TensorElementType::$input)]
            }

            fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
                [OperatorOutput::required(TensorElementType::Uint8)]
            }

            fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<$kernel> {
                $create(&Attributes(context))
            }
        }
    };
}

operator! {
    /// Applies the first convolution to an image, and then the first depthwise one, each followed by PReLU.
    ImageStage, Float32, ImageKernel, ImageKernel::new
}
operator! {
    /// Applies PReLU, a depthwise convolution and another PReLU.
    DepthwiseStage, Uint8, DepthwiseKernel, DepthwiseKernel::new
}
operator! {
    /// Applies PReLU and the batch normalisation after it. The output has one row per face.
    ActivationStage, Uint8, ActivationKernel, ActivationKernel::new
}

/// The kernel of [`ImageStage`].
struct ImageKernel {
    side: usize,
    mean: f32,
    factor: f32,
    first_convolution: Vec<FirstConvolution>,
    /// The planes of a normalised image, zero-padded.
    planes: [Vec<f32>; 3],
    rows: Rows,
    depthwise: Convolution,
}

impl ImageKernel {
    fn new(attributes: &Attributes) -> ort::Result<Self> {
        let (bias, slope) = (attributes.blocks("first_bias")?, attributes.blocks("first_slope")?);
        let weights = attributes.taps("first_weight", bias.len())?;
        let side = attributes.dimension("side")?;
        let depthwise = attributes.convolution(side)?;
        if slope.len() != bias.len() || depthwise.channel_blocks() != bias.len() {
            return Err(invalid("first_slope"));
        }
        if !side.is_multiple_of(kernels::PIXELS) {
            return Err(invalid("side"));
        }
        let first = weights.into_iter().zip(bias).zip(slope);
        let first = first.map(|((weight, bias), slope)| FirstConvolution { weight, bias, slope });
        Ok(Self {
            side,
            mean: attributes.float("mean")?,
            factor: attributes.float("factor")?,
            first_convolution: first.collect(),
            planes: std::array::from_fn(|_| vec![0.0; (side + 2) * (side + 2)]),
            rows: Rows::new(side, depthwise.channel_blocks()),
            depthwise,
        })
    }
}

impl Kernel for ImageKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let Self { side, mean, factor, first_convolution, planes, rows, depthwise } = self;
        let side = *side;
        compute(context, 3 * side * side, depthwise.shape(), |image: &[f32], result| {
            for (plane, pixels) in planes.iter_mut().zip(image.chunks_exact(side * side)) {
                let inner = plane[side + 2..].chunks_exact_mut(side + 2);
                for (row, pixels) in inner.zip(pixels.chunks_exact(side)) {
                    for (to, pixel) in row[1..].iter_mut().zip(pixels) {
                        *to = (pixel - *mean) * *factor;
                    }
                }
            }
            let planes = planes.each_ref().map(Vec::as_slice);
            depthwise.run(rows, |y, row| kernels::first_convolution(planes, y, first_convolution, row), result);
        })
    }
}

/// The kernel of [`DepthwiseStage`].
struct DepthwiseKernel {
    side: usize,
    input: Quantisation,
    slope: Vec<Block>,
    rows: Rows,
    depthwise: Convolution,
}

impl DepthwiseKernel {
    fn new(attributes: &Attributes) -> ort::Result<Self> {
        let (side, slope) = (attributes.dimension("side")?, attributes.blocks("input_slope")?);
        let depthwise = attributes.convolution(side)?;
        if slope.len() != depthwise.channel_blocks() {
            return Err(invalid("input_slope"));
        }
        let (input, rows) = (attributes.quantisation("input")?, Rows::new(side, slope.len()));
        Ok(Self { side, input, slope, rows, depthwise })
    }
}

impl Kernel for DepthwiseKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let Self { side, input, slope, rows, depthwise } = self;
        let pitch = *side * slope.len() * LANES;
        compute(context, *side * pitch, depthwise.shape(), |pixels: &[u8], result| {
            let activate = |y: usize, row: &mut [Block]| {
                kernels::activate(&pixels[y * pitch..][..pitch], *input, slope, row);
            };
            depthwise.run(rows, activate, result);
        })
    }
}

/// The kernel of [`ActivationStage`].
struct ActivationKernel {
    pixels: usize,
    input: Quantisation,
    slope: Vec<Block>,
    factor: Vec<Block>,
    offset: Vec<Block>,
    output: Quantisation,
}

impl ActivationKernel {
    fn new(attributes: &Attributes) -> ort::Result<Self> {
        let [slope, factor, offset] = ["input_slope", "factor", "offset"].map(|name| attributes.blocks(name));
        let (slope, factor, offset) = (slope?, factor?, offset?);
        if slope.len() != factor.len() || slope.len() != offset.len() {
            return Err(invalid("factor"));
        }
        let (input, output) = (attributes.quantisation("input")?, attributes.quantisation("output")?);
        Ok(Self { pixels: attributes.dimension("side")?.pow(2), input, slope, factor, offset, output })
    }
}

impl Kernel for ActivationKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let size = self.pixels * self.slope.len() * LANES;
        let parameters = [&*self.slope, &*self.factor, &*self.offset];
        compute(context, size, [1, size], |pixels: &[u8], result| {
            kernels::activate_and_scale(pixels, self.input, parameters, self.output, result);
        })
    }
}

#[cfg(test)]
mod tests;
