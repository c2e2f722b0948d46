"""Makes the image classifier of the tests: which of red, green and blue an image has most of.

    make_test_classifier.py OUT_FOLDER          (needs onnx)

colour_classifier.onnx takes "input" [1,3,32,32] (planar RGB) and gives "logits" [1,3]; colour_labels.txt names them.
"""

import sys
from pathlib import Path

import onnx
from onnx import TensorProto, checker, helper

LABELS = ["red", "green", "blue"]
# Spreads the means of the channels, so that the softmax of a plain colour is well over 0.9.
SCALE = 10.0

nodes = [
    helper.make_node("GlobalAveragePool", ["input"], ["mean"]),
    helper.make_node("Flatten", ["mean"], ["channels"]),
    helper.make_node("Mul", ["channels", "scale"], ["logits"]),
]
graph = helper.make_graph(
    nodes,
    "colour",
    [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 32, 32])],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
    [helper.make_tensor("scale", TensorProto.FLOAT, [1], [SCALE])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="rollcall")
model.ir_version = 8
checker.check_model(model, full_check=True)

out = Path(sys.argv[1])
onnx.save(model, out / "colour_classifier.onnx")
(out / "colour_labels.txt").write_text("".join(label + "\n" for label in LABELS))
