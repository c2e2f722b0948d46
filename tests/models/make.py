"""Makes the classifiers of tests/inference/classifier_models.rs. Needs onnx (1.23.2 was used).

mean_colour.onnx: [1,3,H,W] to three logits, ten times the mean of each channel. softmax.onnx: the same at [1,3,8,6],
with a Softmax. planar_last.onnx: an input [1,8,8,3], which is not planar.
"""
import pathlib

from onnx import TensorProto as T, checker, helper as h, save

HERE = pathlib.Path(__file__).parent


def model(name, shape, nodes, classes):
    graph = h.make_graph(
        nodes, "g", [h.make_tensor_value_info("x", T.FLOAT, shape)],
        [h.make_tensor_value_info("y", T.FLOAT, [1, classes])], [h.make_tensor("ten", T.FLOAT, [1], [10.0])],
    )
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)])
    made.ir_version = 8
    checker.check_model(made, full_check=True)
    save(made, HERE / name)


def mean(output):
    return [
        h.make_node("GlobalAveragePool", ["x"], ["p"]), h.make_node("Flatten", ["p"], ["f"]),
        h.make_node("Mul", ["f", "ten"], [output]),
    ]


model("mean_colour.onnx", [1, 3, "H", "W"], mean("y"), 3)
model("softmax.onnx", [1, 3, 8, 6], mean("l") + [h.make_node("Softmax", ["l"], ["y"])], 3)
model("planar_last.onnx", [1, 8, 8, 3], mean("y"), 8)
