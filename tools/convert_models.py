"""Converts a block-quantised ONNX model into a plain fp32 one that computes the same function.

    convert_models.py detector|embedder IN.onnx OUT.onnx          (needs onnx and numpy)

ONNX Runtime does not load OpenCV Zoo's `int8bq` files: the detector has a blocked DequantizeLinear with a scalar
scale, and the embedder has graph inputs without a source. The Zoo's plain fp32 files need no conversion.

The steps, none of which changes the function:
  1. compute every DequantizeLinear and constant Reshape in advance, so that weights are plain initialisers
  2. drop Dropout, which does nothing at inference
  3. fold BatchNormalization into the Conv or Gemm before it
  4. write PRelu as a*x + (1-a)*Relu(x), which ONNX Runtime computes about twice as fast on a CPU
  5. keep the inputs and initialisers that are still used, and let the image size or the batch size vary
"""

import sys

import numpy as np
import onnx
from onnx import checker, helper, numpy_helper

OPSET = 13
IR_VERSION = 8


def attributes(node):
    """Returns the attributes of a node by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def dequantise(node, values):
    """Returns the weights that a DequantizeLinear represents: (quantised - zero point) * scale.

    A scale applies to the whole tensor, for each index of `axis`, or for blocks of `block_size` along `axis`.
    """
    quantised, scale = values[node.input[0]], values[node.input[1]]
    zero = values[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale, dtype=quantised.dtype)
    options = attributes(node)
    axis, block = options.get("axis", 1), options.get("block_size", 0)
    if block:
        length = quantised.shape[axis]
        scale = np.take(np.repeat(scale, block, axis), range(length), axis)
        zero = np.take(np.repeat(zero, block, axis), range(length), axis)
    elif scale.ndim == 1 and scale.size > 1:
        along_axis = [1] * quantised.ndim
        along_axis[axis] = -1
        scale, zero = scale.reshape(along_axis), zero.reshape(along_axis)
    return (quantised.astype(np.int32) - zero.astype(np.int32)).astype(np.float32) * scale.astype(np.float32)


def compute_constants(graph):
    """Returns the initialisers as arrays by name, and the nodes that depend on the image."""
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    renamed, nodes = {}, []
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        if node.op_type == "DequantizeLinear":
            values[node.output[0]] = dequantise(node, values)
        elif node.op_type == "Reshape" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].reshape(values[node.input[1]].astype(int).tolist())
        elif node.op_type == "Dropout":
            renamed[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    return values, [n for n in nodes if n.op_type != "Constant" or n.output[0] in used]


def fold_batch_norm(values, nodes):
    """Folds each BatchNormalization into the Conv or Gemm that feeds only it; removes stale attributes from others."""
    producer = {name: node for node in nodes for name in node.output}
    uses = [name for node in nodes for name in node.input]
    kept = []
    for node in nodes:
        if node.op_type != "BatchNormalization":
            kept.append(node)
            continue
        linear = producer.get(node.input[0])
        if linear is None or linear.op_type not in ("Conv", "Gemm") or uses.count(node.input[0]) != 1:
            for stale in [a for a in node.attribute if a.name in ("spatial", "training_mode")]:
                node.attribute.remove(stale)
            del node.output[1:]
            kept.append(node)
            continue
        gamma, beta, mean, variance = (values[name] for name in node.input[1:5])
        scale = (gamma / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))).astype(np.float32)
        weight_name = linear.input[1]
        weight = values[weight_name]
        bias = values[linear.input[2]] if len(linear.input) > 2 else 0
        values[weight_name + "_folded"] = (weight * scale.reshape([-1] + [1] * (weight.ndim - 1))).astype(np.float32)
        values[weight_name + "_bias"] = ((bias - mean) * scale + beta).astype(np.float32)
        linear.input[1:] = [weight_name + "_folded", weight_name + "_bias"]
        linear.output[0] = node.output[0]
        producer[node.output[0]] = linear
    return kept


def expand_prelu(values, nodes):
    """Does step 4: replaces PRelu(x) with a*x + (1-a)*Relu(x)."""
    expanded = []
    for node in nodes:
        if node.op_type != "PRelu":
            expanded.append(node)
            continue
        x, slope = node.input
        y = node.output[0]
        values[y + "_slope"] = values[slope].astype(np.float32)
        values[y + "_rest"] = (1 - values[slope]).astype(np.float32)
        expanded += [
            helper.make_node("Relu", [x], [y + "_relu"]),
            helper.make_node("Mul", [x, y + "_slope"], [y + "_scaled"]),
            helper.make_node("Mul", [y + "_relu", y + "_rest"], [y + "_kept"]),
            helper.make_node("Add", [y + "_scaled", y + "_kept"], [y]),
        ]
    return expanded


def free_dimensions(kind, inputs, outputs):
    """Lets the detector take one image of any size, and the embedder any number of faces."""
    if kind == "detector":
        image = inputs[0].type.tensor_type.shape.dim
        image[2].dim_param, image[3].dim_param = "height", "width"
        for output in outputs:
            output.type.tensor_type.shape.dim[1].dim_param = "cells_" + output.name
    else:
        for value in inputs + outputs:
            value.type.tensor_type.shape.dim[0].dim_param = "faces"


def simplify(graph):
    """Does steps 1 to 3. Returns the initialisers as arrays by name, and the nodes."""
    values, nodes = compute_constants(graph)
    return values, fold_batch_norm(values, nodes)


def assemble(kind, graph, values, nodes):
    """Does step 5. Returns a model of the nodes, with the inputs and outputs of the graph."""
    used = {name for node in nodes for name in node.input}
    inputs = [i for i in graph.input if i.name in used and i.name not in values]
    outputs = list(graph.output)
    free_dimensions(kind, inputs, outputs)
    initialisers = [
        numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in values.items() if name in used
    ]
    model = helper.make_model(
        helper.make_graph(nodes, graph.name or kind, inputs, outputs, initialisers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="rollcall",
    )
    model.ir_version = IR_VERSION
    checker.check_model(model, full_check=True)
    return model


def convert(kind, model):
    values, nodes = simplify(model.graph)
    return assemble(kind, model.graph, values, expand_prelu(values, nodes))


if __name__ == "__main__":
    kind, source, target = sys.argv[1:]
    onnx.save(convert(kind, onnx.load(source)), target)
