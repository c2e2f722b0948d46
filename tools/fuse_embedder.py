"""Fuses what lies between the integer operators of the quantised embedder.

Between two pointwise convolutions in integers, quantise_embedder.py leaves a chain of fp32 operators, around each of
which ONNX Runtime converts between types and layouts. The fused graph computes the same function with u8 between all
operators, channels last, and every tensor as a matrix [faces * height * width, channels]:

    ImageStage       image -> first convolution, PRelu, depthwise convolution, PRelu -> u8
    QGemm            a pointwise convolution, which is a product of matrices
    DepthwiseStage   u8 -> PRelu, depthwise convolution, PRelu -> u8
    ActivationStage  u8 -> PRelu, BatchNormalization -> u8, with one row per face
    QGemm            the embedding

QGemm is ONNX Runtime's own (domain com.microsoft). The stages (domain rollcall) are in src/inference/vision/stages/.
"""

import numpy as np
from convert_models import IR_VERSION, OPSET, attributes, free_dimensions
from onnx import helper, numpy_helper

DOMAIN = "rollcall"
MICROSOFT = "com.microsoft"


class Chain:
    """The operators between the image and the embedding in their order, without the constants that feed them."""

    def __init__(self, graph):
        self.values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.constants = {n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in self.values}
        self.nodes = [n for n in graph.node if n.output[0] not in self.constants]
        self.at = 0

    def peek(self):
        return self.nodes[self.at].op_type

    def take(self, *op_types):
        """Returns the next operators, which must be of these types."""
        taken = self.nodes[self.at : self.at + len(op_types)]
        if [node.op_type for node in taken] != list(op_types):
            raise SystemExit(f"fuse_embedder: {op_types} expected, not {[node.op_type for node in taken]}")
        self.at += len(op_types)
        return taken

    def value(self, node, index):
        return self.values[node.input[index]]

    def floats(self, node, index):
        return self.value(node, index).astype(np.float32).ravel().tolist()

    def quantised(self):
        """Returns the scale and the zero point of the next pair of QuantizeLinear and DequantizeLinear."""
        quantise, _ = self.take("QuantizeLinear", "DequantizeLinear")
        return {"scale": float(self.value(quantise, 1)), "zero": int(self.value(quantise, 2))}


def prefixed(prefix, parameters):
    return {f"{prefix}_{name}": value for name, value in parameters.items()}


class Fused:
    """Collects the nodes of the fused graph and their constants."""

    def __init__(self, chain):
        self.chain = chain
        self.nodes, self.values = [], {}
        self.output = None

    def node(self, op_type, inputs, domain, **options):
        self.output = f"{op_type}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [self.output], self.output, domain=domain, **options))

    def constant(self, name, value):
        name = f"{name}_{len(self.nodes)}"
        self.values[name] = value
        return name

    def depthwise(self):
        """Returns the attributes of a depthwise convolution, its PRelu and its quantisation."""
        conv, prelu = self.chain.take("Conv", "PRelu")
        weight = self.chain.value(conv, 1)  # [channels, 1, 3, 3]
        assert weight.shape[1:] == (1, 3, 3) and attributes(conv)["pads"] == [1, 1, 1, 1]
        return {
            "stride": attributes(conv)["strides"][0],
            "weight": weight.reshape(len(weight), 9).T.ravel().tolist(),
            "bias": self.chain.floats(conv, 2),
            "slope": self.chain.floats(prelu, 1),
            **prefixed("output", self.chain.quantised()),
        }

    def image_stage(self, side):
        sub, mul, conv, prelu = self.chain.take("Sub", "Mul", "Conv", "PRelu")
        weight = self.chain.value(conv, 1)  # [channels, 3, 3, 3]
        assert attributes(conv)["pads"] == [1, 1, 1, 1] and attributes(conv)["strides"] == [1, 1]
        self.node(
            "ImageStage",
            ["data"],
            DOMAIN,
            side=side,
            mean=self.chain.floats(sub, 1)[0],
            factor=self.chain.floats(mul, 1)[0],
            first_weight=weight.reshape(len(weight), 27).T.ravel().tolist(),
            first_bias=self.chain.floats(conv, 2),
            first_slope=self.chain.floats(prelu, 1),
            **self.depthwise(),
        )

    def gemm(self, node, input_quantised, output_quantised):
        """Adds the integer product of a pointwise convolution or of the last Gemm."""
        weight, scale, zero = (self.chain.value(self.chain.constants[node.input[1]], i) for i in range(3))
        if node.op_type == "Gemm":  # the rows of a face were ordered by channel, and now are by position
            channels = len(self.channels)
            weight = weight.reshape(len(weight), channels, -1).transpose(0, 2, 1)
        inputs = [
            self.output,
            self.constant("a_scale", np.float32(input_quantised["scale"])),
            self.constant("a_zero", np.uint8(input_quantised["zero"])),
            self.constant("b", np.ascontiguousarray(weight.reshape(len(weight), -1).T)),
            self.constant("b_scale", scale),
            self.constant("b_zero", zero),
            self.constant("c", self.chain.value(self.chain.constants[node.input[2]], 0)),
        ]
        if output_quantised:
            inputs.append(self.constant("y_scale", np.float32(output_quantised["scale"])))
            inputs.append(self.constant("y_zero", np.uint8(output_quantised["zero"])))
        self.node("QGemm", inputs, MICROSOFT)

    def build(self, side):
        self.image_stage(side)
        quantised = prefixed_out(self.nodes[-1])
        while True:
            (conv,) = self.chain.take("Conv")
            result = self.chain.quantised()
            self.gemm(conv, quantised, result)
            (prelu,) = self.chain.take("PRelu")
            self.channels = self.chain.floats(prelu, 1)
            entry = {"input_slope": self.channels, **prefixed("input", result)}
            if self.chain.peek() != "Conv":
                break
            stage = self.depthwise()
            self.node("DepthwiseStage", [self.output], DOMAIN, side=side, **entry, **stage)
            side //= stage["stride"]
            quantised = prefixed_out(self.nodes[-1])
        (norm,) = self.chain.take("BatchNormalization")
        gamma, beta, mean, variance = (self.chain.value(norm, i).astype(np.float64) for i in range(1, 5))
        factor = gamma / np.sqrt(variance + attributes(norm)["epsilon"])
        self.chain.take("Flatten")
        quantised = self.chain.quantised()
        self.node(
            "ActivationStage",
            [self.output],
            DOMAIN,
            side=side,
            factor=factor.astype(np.float32).tolist(),
            offset=(beta - mean * factor).astype(np.float32).tolist(),
            **entry,
            **prefixed("output", quantised),
        )
        (gemm,) = self.chain.take("Gemm")
        self.gemm(gemm, quantised, None)


def prefixed_out(node):
    options = attributes(node)
    return {"scale": options["output_scale"], "zero": options["output_zero"]}


def fuse(model):
    fused = Fused(Chain(model.graph))
    inputs, outputs = list(model.graph.input), list(model.graph.output)
    fused.build(inputs[0].type.tensor_type.shape.dim[2].dim_value)
    fused.nodes[-1].output[0] = outputs[0].name
    free_dimensions("embedder", inputs, outputs)
    initialisers = [numpy_helper.from_array(np.asarray(value), name) for name, value in fused.values.items()]
    result = helper.make_model(
        helper.make_graph(fused.nodes, "embedder", inputs, outputs, initialisers),
        opset_imports=[helper.make_opsetid(d, v) for d, v in [("", OPSET), (MICROSOFT, 1), (DOMAIN, 1)]],
        producer_name="rollcall",
    )
    result.ir_version = IR_VERSION
    return result

