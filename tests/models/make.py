"""Makes the small models of the tests, byte for byte the same with onnx 1.23.2: `make golden` calls it.

    make.py [OUT_FOLDER]          (default: this folder)

Each classifier takes planar RGB and gives one logit per channel, ten times its mean, so that the softmax of a plain
colour is well over 0.9. The embedder's numbers are no worse than another's for tests of what is done with them.

    colour_classifier.onnx   "input" [1,3,32,32] to "logits" [1,3]; colour_labels.txt names them
    mean_colour.onnx         [1,3,H,W], any size
    softmax.onnx             [1,3,8,6], and probabilities instead of logits
    planar_last.onnx         [1,8,8,3]: not planar, so it must be refused
    mean_embedder.onnx       [1,3,112,112] to [1,128]: two mixed channels, averaged over squares of 14 pixels
"""

import sys
from pathlib import Path

from onnx import ModelProto, TensorProto, checker, helper, save

LABELS = ["red", "green", "blue"]
SCALE = 10.0


def mean(image: str, pooled: str, flat: str, scale: str, output: str) -> list:
    return [
        helper.make_node("GlobalAveragePool", [image], [pooled]),
        helper.make_node("Flatten", [pooled], [flat]),
        helper.make_node("Mul", [flat, scale], [output]),
    ]


def model(name: str, nodes: list, image: str, shape: list, scale: str, output: str, classes: int, **more) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(image, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, classes])],
        [helper.make_tensor(scale, TensorProto.FLOAT, [1], [SCALE])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], **more)
    made.ir_version = 8
    checker.check_model(made, full_check=True)
    return made


def colour() -> ModelProto:
    nodes = mean("input", "mean", "channels", "scale", "logits")
    return model("colour", nodes, "input", [1, 3, 32, 32], "scale", "logits", 3, producer_name="rollcall")


def plain(shape: list, classes: int, softmax: bool = False) -> ModelProto:
    nodes = mean("x", "p", "f", "ten", "l" if softmax else "y")
    if softmax:
        nodes.append(helper.make_node("Softmax", ["l"], ["y"]))
    return model("g", nodes, "x", shape, "ten", "y", classes)


def embedder() -> ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "mixed"], ["m"], kernel_shape=[1, 1]),
        helper.make_node("AveragePool", ["m"], ["p"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 128])],
        [helper.make_tensor("mixed", TensorProto.FLOAT, [2, 3, 1, 1], [1.0, 0.0, -0.5, 0.0, 1.0, -0.5])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    checker.check_model(made, full_check=True)
    return made


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    save(colour(), out / "colour_classifier.onnx")
    (out / "colour_labels.txt").write_text("".join(label + "\n" for label in LABELS))
    save(plain([1, 3, "H", "W"], 3), out / "mean_colour.onnx")
    save(plain([1, 3, 8, 6], 3, softmax=True), out / "softmax.onnx")
    save(plain([1, 8, 8, 3], 8), out / "planar_last.onnx")
    save(embedder(), out / "mean_embedder.onnx")
