"""Makes the int8 variant of the embedder from its block-quantised ONNX file.

    quantise_embedder.py IN.onnx RANGES.json OUT.onnx [--plain]          (needs onnx and numpy)

The 13 pointwise convolutions and the Gemm at the end, which take most of an embedder's time, compute with integers: u8
activations with one scale per tensor, s8 weights with one scale per output channel, s32 biases. Everything else stays
fp32, because int8 makes it no faster: the first convolution, the depthwise ones, and PRelu, which here stays one
operator (convert_models.py expands it for fp32 alone). The embedding is fp32 as well.

Each integer operator is written as fp32 between QuantizeLinear and DequantizeLinear (QDQ), which ONNX Runtime fuses.
Then fuse_embedder.py fuses the rest into Rollcall's custom operators; with --plain, the graph consists of standard
operators only, and computes the same function on any runtime.

RANGES.json contains the lowest and the highest value of each quantised activation, {tensor: [lowest, highest]}.
sface_ranges.json was calibrated with the fp32 graph on the faces of the six credited sample photos, each aligned 16
times: once as it is, and 15 times augmented (flipped, shifted, scaled, rotated, with another gamma, blurred).
"""

import json
import sys

import numpy as np
import onnx
from convert_models import assemble, attributes, simplify
from fuse_embedder import fuse
from onnx import helper

U8_MAX = 255
S8_MAX = 127


def is_pointwise(node, values):
    """Returns whether the node is a convolution with a kernel of one pixel over all channels."""
    return node.op_type == "Conv" and attributes(node).get("group", 1) == 1 and values[node.input[1]].shape[2] == 1


class Quantiser:
    """Collects the nodes of the quantised graph, and adds their constants to `values`."""

    def __init__(self, values, ranges):
        self.values = values
        self.ranges = ranges
        self.nodes = []

    def activation(self, name, source, target):
        """Adds `target`: `source`, rounded to u8 in the range of the tensor `name`. Returns the scale."""
        lowest, highest = min(self.ranges[name][0], 0.0), max(self.ranges[name][1], 0.0)
        scale = np.float32((highest - lowest) / U8_MAX)
        zero = np.uint8(np.clip(np.rint(-lowest / scale), 0, U8_MAX))
        self.values[name + "_scale"], self.values[name + "_zero"] = scale, zero
        parameters = [name + "_scale", name + "_zero"]
        self.nodes += [
            helper.make_node("QuantizeLinear", [source, *parameters], [name + "_quantised"]),
            helper.make_node("DequantizeLinear", [name + "_quantised", *parameters], [target]),
        ]
        return scale

    def weight(self, name, axis):
        """Adds a weight in s8, with a scale for each index of `axis`. Returns its name and its scales."""
        weight = self.values[name]
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = (np.maximum(np.abs(weight).max(axis=others), 1e-12) / S8_MAX).astype(np.float32)
        along_axis = [1] * weight.ndim
        along_axis[axis] = -1
        quantised = np.clip(np.rint(weight / scale.reshape(along_axis)), -S8_MAX, S8_MAX).astype(np.int8)
        return self.constant(name, quantised, scale, axis), scale

    def bias(self, name, scale):
        """Adds a bias in s32, with the scales of the products to which it is added. Returns its name."""
        return self.constant(name, np.rint(self.values[name] / scale).astype(np.int32), scale, axis=0)

    def constant(self, name, quantised, scale, axis):
        self.values[name + "_quantised"], self.values[name + "_scale"] = quantised, scale
        self.values[name + "_zero"] = np.zeros(len(scale), quantised.dtype)
        inputs = [name + "_quantised", name + "_scale", name + "_zero"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name + "_dequantised"], axis=axis))
        return name + "_dequantised"

    def linear(self, node):
        """Adds a pointwise Conv or a Gemm in integers. The output of a Conv is rounded too."""
        (x, weight, bias), (y,) = node.input, node.output
        x_scale = self.activation(x, x, x + "_dequantised")
        outputs_last = node.op_type == "Gemm" and not attributes(node).get("transB", 0)
        weight, weight_scale = self.weight(weight, axis=1 if outputs_last else 0)
        node.input[:] = [x + "_dequantised", weight, self.bias(bias, x_scale * weight_scale)]
        self.nodes.append(node)
        if node.op_type == "Conv":
            node.output[0] = y + "_exact"
            self.activation(y, y + "_exact", y)


def quantise(model, ranges):
    values, nodes = simplify(model.graph)
    quantiser = Quantiser(values, ranges)
    for node in nodes:
        if is_pointwise(node, values) or node.op_type == "Gemm":
            quantiser.linear(node)
        else:
            quantiser.nodes.append(node)
    return assemble("embedder", model.graph, values, quantiser.nodes)


if __name__ == "__main__":
    source, ranges, target, *plain = sys.argv[1:]
    with open(ranges) as file:
        quantised = quantise(onnx.load(source), json.load(file))
    onnx.save(quantised if plain == ["--plain"] else fuse(quantised), target)
