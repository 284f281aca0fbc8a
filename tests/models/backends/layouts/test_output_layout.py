"""Files of other exporters: known boxes are read in every supported layout, all others are refused with what was seen."""

import os
from pathlib import Path

import numpy as np
import pytest

from graftdet.models import load_model
from graftdet.models.backends import BACKENDS
from graftdet.models.backends.layouts.grid import find_grid
from graftdet.models.backends.layouts.recognition import UnknownLayout, recognize
from graftdet.models.backends.selection.ways import installed_backends
from graftdet.utils.errors import UserError

onnx = pytest.importorskip("onnx")
SIZE = (64, 96)  # height, width
BOXES = np.array([[10, 20, 50, 60], [60, 4, 92, 40]], np.float32)  # xyxy in pixels of the input
SCORES, LABELS = np.array([0.9, 0.6], np.float32), [1, 0]
NAMES = {"names": "{0: 'cat', 1: 'dog'}", "stride": "32"}


def constant_file(path, outputs, metadata=None, size=SIZE, dtype=np.float32):
    """An ONNX file that returns these arrays, whatever the image."""
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["top"], keepdims=0),
        helper.make_node("Sub", ["top", "top"], ["nothing"]),
    ]
    constants, values = [], []
    for index, array in enumerate(outputs):
        constants.append(helper.make_tensor(f"c{index}", kind, array.shape, array.astype(dtype).ravel()))
        nodes.append(helper.make_node("Add", ["nothing", f"c{index}"], [f"output{index}"]))
        values.append(helper.make_tensor_value_info(f"output{index}", kind, array.shape))
    image = helper.make_tensor_value_info("images", kind, [1, 3, *size])
    graph = helper.make_graph(nodes, "g", [image], values, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path))
    return path


def raw_rows(count, objectness, corners=False, normalized=False, nc=2):
    """(count, columns) with the known boxes in rows 3 and 7, everything else zero."""
    boxes = BOXES if corners else np.concatenate(((BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]), 1)
    rows = np.zeros((count, 4 + objectness + nc), np.float32)
    for row, box, score, label in zip((3, 7), boxes, SCORES, LABELS, strict=True):
        rows[row, :4] = box / ([SIZE[1], SIZE[0]] * 2 if normalized else 1)
        if objectness:
            rows[row, 4] = 0.95
        rows[row, 4 + objectness + label] = score / (0.95 if objectness else 1)
    return rows


def assert_known_boxes(model, labels=LABELS):
    detections = model.predict(np.zeros((*SIZE, 3), np.uint8), conf=0.3)[0]
    np.testing.assert_allclose(detections.boxes, BOXES, atol=0.1)
    np.testing.assert_allclose(detections.scores, SCORES, atol=1e-3)
    assert detections.labels.tolist() == list(labels)
    return detections


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("metadata", [NAMES, {}])
@pytest.mark.parametrize("normalized", [False, True])
def test_yolov8_layout(tmp_path, backend, metadata, normalized):
    rows = raw_rows(126, objectness=False, normalized=normalized)
    path = constant_file(tmp_path / "v8.onnx", [rows.T[None]], metadata)
    model = BACKENDS[backend].load(path)
    detections = assert_known_boxes(model)
    assert detections.class_names == (["dog", "cat"] if metadata else ["class1", "class0"])
    assert model.needs_nms and model.names_known == bool(metadata) and model.stride == 32


def test_float16_file(tmp_path):
    path = constant_file(tmp_path / "half.onnx", [raw_rows(126, objectness=False).T[None]], NAMES, dtype=np.float16)
    assert_known_boxes(load_model(path))


@pytest.mark.parametrize("metadata", [NAMES, {}])
@pytest.mark.parametrize("normalized", [False, True])
def test_yolov5_layout(tmp_path, metadata, normalized):
    rows = raw_rows(378, objectness=True, normalized=normalized)
    assert_known_boxes(load_model(constant_file(tmp_path / "v5.onnx", [rows[None]], metadata)))


def test_yolov5_file_with_its_raw_maps(tmp_path):
    """Early exports of YOLOv5 also write the maps of the head."""
    maps = [np.zeros((1, 3, SIZE[0] // s, SIZE[1] // s, 7), np.float32) for s in (8, 16, 32)]
    rows = raw_rows(378, objectness=True)[None]
    assert_known_boxes(load_model(constant_file(tmp_path / "a.onnx", [*maps, rows])))


def test_names_decide_between_objectness_and_none(tmp_path):
    """With two names, six columns are four and two scores; the same columns with objectness are seven."""
    rows = raw_rows(126, objectness=False)
    assert_known_boxes(load_model(constant_file(tmp_path / "a.onnx", [rows[None]], NAMES)))
    rows = raw_rows(126, objectness=True)
    assert_known_boxes(load_model(constant_file(tmp_path / "b.onnx", [rows.T[None]], NAMES)))


def end_to_end_rows(count, order, normalized=False):
    rows = np.zeros((count, 6), np.float32)
    scale = [SIZE[1], SIZE[0]] * 2 if normalized else 1
    for row, (box, score, label) in enumerate(zip(BOXES, SCORES, LABELS, strict=True)):
        rows[row] = [*(box / scale), score, label] if order == "score" else [*(box / scale), label, score]
    return rows


@pytest.mark.parametrize("order", ["score", "label"])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("shape", [(1, 300, 6), (300, 6), (2, 6)])
def test_end_to_end_layout(tmp_path, order, normalized, shape):
    rows = end_to_end_rows(shape[-2], order, normalized).reshape(shape)
    model = load_model(constant_file(tmp_path / "e2e.onnx", [rows], NAMES))
    assert not model.needs_nms
    assert assert_known_boxes(model).class_names == ["dog", "cat"]


def test_end_to_end_batch_as_yolov7_writes_it(tmp_path):
    rows = np.array([[0, *BOXES[0], 1, 0.9], [0, *BOXES[1], 0, 0.6]], np.float32)
    assert_known_boxes(load_model(constant_file(tmp_path / "e2e.onnx", [rows], NAMES)))


def test_end_to_end_detections_are_not_suppressed_and_need_no_names(tmp_path):
    rows = end_to_end_rows(300, "score")
    rows[1, :4], rows[1, 5] = rows[0, :4] + 1, 200  # overlaps, of a class beyond the placeholders
    model = load_model(constant_file(tmp_path / "e2e.onnx", [rows[None]]))
    detections = model.predict(np.zeros((*SIZE, 3), np.uint8))[0]
    assert detections.class_names == ["class1", "class200"] and not model.names_known


def test_a_file_of_one_class_is_not_end_to_end(tmp_path):
    rows = raw_rows(378, objectness=True, nc=2)[:, :6]  # 5 + 1 columns
    rows[3, 5] = 1
    model = load_model(constant_file(tmp_path / "one.onnx", [rows[None]]))
    assert model.nc == 1 and model.needs_nms


def grid_rows(columns, anchors=3, size=(320, 320), seed=0):
    """Dense predictions (N, columns) as a real model gives: boxes around their cells, random scores."""
    random = np.random.default_rng(seed)
    grid = next(g for g in find_grid(anchors * sum((size[0] // s) * (size[1] // s) for s in (8, 16, 32)), size))
    rows = random.random((len(grid.centers), columns)).astype(np.float32)
    rows[:, :2] = grid.centers + random.uniform(-8, 8, grid.centers.shape)
    rows[:, 2:4] = random.uniform(4, 120, grid.centers.shape)
    return rows


def seen(rows, num_names=None, metadata=None, size=(320, 320)):
    """The layout that is recognized, or the reason why none is."""
    try:
        return recognize(rows[None], size, num_names, metadata or {})
    except UnknownLayout as error:
        return str(error)


def test_dense_predictions_are_recognized_by_their_numbers():
    five, eight = grid_rows(7), grid_rows(6, anchors=1).T
    assert (seen(five).objectness, seen(five).normalized, seen(five).stride) == (True, False, 32)
    assert (seen(eight).transposed, seen(eight).objectness, seen(eight).num_classes) == (True, False, 2)
    fractions = five.copy()
    fractions[:, :4] /= 320
    assert seen(fractions).normalized
    corners = five.copy()
    corners[:, :2], corners[:, 2:4] = five[:, :2] - five[:, 2:4] / 2, five[:, :2] + five[:, 2:4] / 2
    assert seen(corners).corners and not seen(five).corners
    levels = np.concatenate((five[-300:], five[-1500:-300], five[:-1500]))  # largest stride first
    assert seen(levels).objectness
    six = grid_rows(7, anchors=1)
    six[:, 4] = 1  # YOLOv6: one prediction per cell, objectness 1
    assert seen(six).num_classes == 2


def test_transformer_queries_need_names_and_no_nms():
    random = np.random.default_rng(0)
    rows = random.random((300, 6)).astype(np.float32)
    layout = seen(rows, num_names=2)
    assert layout.normalized and not layout.objectness and not layout.needs_nms
    assert "expected metadata with 'names'" in seen(random.random((300, 84)).astype(np.float32))


def test_other_layouts_are_refused_with_what_was_seen():
    random = np.random.default_rng(0)
    undecoded = grid_rows(85)
    undecoded[:, :4] = random.normal(0.5, 0.1, (6300, 4))
    assert "boxes that are not decoded" in seen(undecoded) and "(1, 6300, 85)" in seen(undecoded)
    logits = grid_rows(85)
    logits[:, 5:] = random.normal(-3, 2, (6300, 80))
    assert "where a score from 0 to 1 is expected" in seen(logits)
    face = grid_rows(16)
    face[:, 5:15] = np.tile(face[:, :2], 5)
    assert "column 5" in seen(face) and "landmarks" in seen(face)
    pose = grid_rows(56, anchors=1)
    pose[:, 5:] = 100
    assert "keypoints" in seen(pose.T)
    assert "as YOLOX exports" in seen(grid_rows(85, anchors=1))
    assert "does not fit its 80 class names" in seen(grid_rows(117), num_names=80)
    assert "task 'segment'" in seen(grid_rows(85), metadata={"task": "segment"})
    assert "5 + classes" in seen(grid_rows(5))
    assert "raw maps" in seen(np.zeros((3, 40, 40, 85), np.float32))
    assert "NaN" in seen(np.full((6300, 85), np.nan))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(1, 100, 80), (1, 100, 32)], r"has 2 outputs \(output0 \(1, 100, 80\), output1 \(1, 100, 32\)\)"),
        ([(1, 8732, 4), (1, 8732, 21)], "of other families"),
        ([(1, 300, 117), (1, 32, 16, 24)], "2 outputs"),
        ([(1, 3, 8, 12, 7), (1, 3, 4, 6, 7)], "2 outputs"),
        ([(1, 85, 22, 22)], "raw maps"),
        ([(1, 1000)], "expected"),
    ],
)
def test_shapes_of_other_families(tmp_path, shapes, message):
    path = constant_file(tmp_path / "other.onnx", [np.zeros(shape, np.float32) for shape in shapes])
    with pytest.raises(UserError, match=f"other.onnx: .*{message}") as error:
        load_model(path)
    assert "\n" not in str(error.value)


def test_inputs_that_are_no_image(tmp_path):
    path = constant_file(tmp_path / "nhwc.onnx", [raw_rows(378, True)[None]], size=(96, 3))
    graph = onnx.load(str(path))
    for dim, side in zip(graph.graph.input[0].type.tensor_type.shape.dim, (1, 64, 96, 3), strict=True):
        dim.dim_value = side
    onnx.save(graph, str(path))
    with pytest.raises(UserError, match=r"expected an input \(batch, 3, height, width\), found \[1, 64, 96, 3\]"):
        load_model(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5lite-e-sim-320", "not decoded"),
        ("yolox_nano-a", "not decoded"),
        ("yolox_nano-b", "not decoded"),
        ("nanodet_m", "6 outputs"),
    ],
)
def test_published_files_of_other_families(name, message):
    datasets = Path(os.environ.get("DATASETS_DIR", Path(__file__).resolve().parents[4] / "datasets"))
    path = Path(os.environ.get("WEIGHTS_DIR", datasets.parent / "weights")) / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    with pytest.raises(UserError, match=message):
        load_model(path)
