"""Exported ONNX files: the layout, the same numbers as torch, and invalid files."""

import cv2
import numpy as np
import pytest
import torch

from graftdet.models import ModelSpec, build_model, load_model
from graftdet.models.backends import BACKENDS, ExportOptions, backend_for
from graftdet.models.backends.onnx import OPSETS
from graftdet.models.backends.receipt.verify import noise_images, opencv_difference, relative_difference, verify
from graftdet.models.backends.tracing.export_module import ExportModule
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

onnx = pytest.importorskip("onnx")
BACKEND = BACKENDS["onnx"]


@pytest.fixture(scope="module")
def exported(export_both):
    return export_both(BACKEND)


def expected_rows(model, images):
    with torch.no_grad():
        return model.head.decode_rows(model.raw_outputs(torch.from_numpy(images))).numpy()


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_layout_consumers_expect(model, exported, dynamic):
    _options, path = exported[dynamic]
    graph = onnx.load(str(path))
    onnx.checker.check_model(graph, full_check=True)
    (images,), (output,) = graph.graph.input, graph.graph.output
    dims = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in (images, output)]
    rows = 3 * (8 * 12 + 4 * 6)
    assert (images.name, output.name) == ("images", "output0")
    if dynamic:
        assert dims == [["batch", 3, "height", "width"], ["batch", "rows", 8]]
    else:
        assert dims == [[1, 3, 64, 96], [1, rows, 8]]
    assert graph.opset_import[0].version == 17
    assert [p.name for p in path.parent.iterdir() if p.suffix != ".onnx"] == []  # the weights are inside
    assert not any(tensor.external_data for tensor in graph.graph.initializer)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert metadata["names"] == "{0: 'circle', 1: 'square', 2: 'triangle'}"
    assert (metadata["stride"], metadata["size"], metadata["version"], metadata["nc"]) == ("16", "[64, 96]", "2", "3")


def test_changes_after_the_export_are_reported(exported, tmp_path, caplog):
    path = tmp_path / "a.onnx"
    data = exported[False][1].read_bytes()
    path.write_bytes(data)
    BACKEND.load(path)
    assert not caplog.records
    graph = onnx.load(str(path))
    weights = max(graph.graph.initializer, key=lambda one: len(one.raw_data))
    position = data.index(weights.raw_data) + 4
    path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
    BACKEND.load(path)  # another program may have edited it
    assert [one.getMessage().split(": ", 1)[1][:24] for one in caplog.records] == ["changed after its export"]


def test_published_shape_of_the_default_model(tmp_path):
    """(1, 25200, 85) at 640 with 80 classes; the graph's shape inference gives it without running the file."""
    model = build_model("yolov5n.yaml", nc=80).eval()
    path = BACKEND.export(model, tmp_path / "n.onnx", ExportOptions())
    dims = [d.dim_value for d in onnx.load(str(path)).graph.output[0].type.tensor_type.shape.dim]
    assert dims == [1, 25200, 85]


def test_a_small_image_may_have_fewer_rows_than_columns(tmp_path):
    """84 rows of 85 columns are not a transposed layout: the file names 80 classes, or the numbers show it."""
    model = build_model("graft-p.yaml", nc=80).eval()
    path = BACKEND.export(model, tmp_path / "p.onnx", ExportOptions((64, 64)))
    loaded = BACKEND.load(path)
    assert loaded.nc == 80 and loaded.predictions(np.zeros((1, 3, 64, 64), np.float32)).shape == (1, 84, 85)
    graph = onnx.load(str(path))
    del graph.metadata_props[:]
    onnx.save(graph, str(path))
    bare = BACKEND.load(path)
    assert bare.nc == 80 and not bare.layout.transposed and not bare.names_known


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_same_numbers_as_torch(model, exported, dynamic):
    options, path = exported[dynamic]
    loaded = BACKEND.load(path)
    sizes = [(64, 96), (32, 32), (128, 64)] if dynamic else [(64, 96)]
    for batch in (1, 2, 3):
        for size in sizes:
            images = noise_images(batch, size, seed=batch)
            assert relative_difference(loaded.predictions(images), expected_rows(model, images)) < 1e-4
    images = noise_images(3, (64, 96))
    boxes, scores = loaded(images)
    with torch.no_grad():
        torch_boxes, torch_scores = model(torch.from_numpy(images))
    np.testing.assert_allclose(boxes, torch_boxes.numpy(), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(scores, torch_scores.numpy(), atol=1e-4)
    assert verify(model, loaded, path, options) < 1e-4


def test_attributes_are_read_back(exported):
    fixed, free = (BACKEND.load(exported[dynamic][1]) for dynamic in (False, True))
    assert (fixed.fixed_size, fixed.fixed_batch, fixed.stride, fixed.nc) == ((64, 96), 1, 16, 3)
    assert (free.fixed_size, free.fixed_batch, free.train_size) == (None, None, 96)
    assert fixed.names == ["circle", "square", "triangle"] and fixed.names_known


def test_opencv_reads_it(exported):
    for dynamic in (False, True) if int(cv2.__version__.split(".")[0]) >= 5 else (False,):
        options, path = exported[dynamic]
        loaded = BACKEND.load(path)
        assert opencv_difference(loaded, path, options) < 1e-4
        net = cv2.dnn.readNetFromONNX(np.frombuffer(path.read_bytes(), np.uint8))
        images = noise_images(1, (64, 96), seed=5)
        net.setInput(images)
        np.testing.assert_allclose(net.forward(), loaded.predictions(images), rtol=1e-4, atol=1e-3)


def test_a_file_gives_the_detections_of_its_weights(tiny_weights, exported):
    torch_model, file = load_model(tiny_weights), load_model(exported[True][1])
    image = (255 * noise_images(1, (70, 90))[0].transpose(1, 2, 0)).astype(np.uint8)
    for augment in (False, True):
        (a,), (b,) = (m.predict(image, conf=0.6, imgsz=64, augment=augment) for m in (torch_model, file))
        assert len(a) > 3 and len(a) == len(b)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
    fixed = load_model(exported[False][1])
    assert len(fixed.predict([image] * 3, conf=0.6, augment=True)) == 3  # smaller views are filled up to its size


def test_verify_finds_a_file_of_other_weights(model, exported, tiny_yaml):
    options, path = exported[False]
    torch.manual_seed(3)
    other = build_model(ModelSpec.from_text(tiny_yaml, "other.yaml")).eval()
    with pytest.raises(UserError, match="differs from the model.*allowed is 1e-03"):
        verify(other, BACKEND.load(path), path, options)
    nan = np.full((1, 2), np.nan)
    assert relative_difference(nan, np.zeros((1, 2))) == float("inf")
    assert relative_difference(np.zeros((1, 3)), np.zeros((1, 2))) == float("inf")
    assert relative_difference(np.array([201.0, 0.5]), np.array([200.0, 0.4])) == pytest.approx(0.1)


def test_exporting_does_not_change_the_model(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ExportModule(model)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions(size=(64, 90)), "multiples of 16"),
        (ExportOptions(size=(64, 64), opset=10), f"expected {OPSETS.start} to {OPSETS.stop - 1}"),
        (ExportOptions(size=(64, 64), batch_size=0), "batch"),
    ],
)
def test_invalid_options(model, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        BACKEND.export(model, tmp_path / "a.onnx", options)
    assert list(tmp_path.iterdir()) == []


def foreign(path, output_shape, metadata=None, inputs=1):
    """An ONNX file that returns zeros of `output_shape` for any input."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(f"in{i}", floats, [1, 3, 64, 64]) for i in range(inputs)]
    constant = helper.make_tensor("zeros", floats, output_shape, np.zeros(np.prod(output_shape), np.float32))
    nodes = [
        helper.make_node("ReduceMax", ["in0"], ["top"], keepdims=0),
        helper.make_node("Mul", ["top", "zeros"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes, "g", values, [helper.make_tensor_value_info("out", floats, output_shape)], [constant]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path))
    return path


def test_files_of_other_exporters(tmp_path):
    bare = BACKEND.load(foreign(tmp_path / "bare.onnx", [1, 252, 9]))
    assert bare.names == ["class0", "class1", "class2", "class3"] and not bare.names_known
    assert bare.stride == 32 and bare.fixed_size == (64, 64)
    assert len(bare.predict(np.zeros((50, 60, 3), np.uint8))[0]) == 0
    described = BACKEND.load(
        foreign(tmp_path / "described.onnx", [1, 252, 7], {"names": "{0: 'cat', 1: \"dog's\"}", "stride": "64"})
    )
    assert described.names == ["cat", "dog's"] and described.stride == 64
    odd = BACKEND.load(foreign(tmp_path / "odd.onnx", [1, 252, 7], {"names": "__import__('os')", "stride": "x"}))
    assert odd.names == ["class0", "class1"] and odd.stride == 32


def test_files_that_cannot_be_run(exported, tmp_path):
    content = exported[False][1].read_bytes()
    (tmp_path / "truncated.onnx").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    foreign(tmp_path / "classifier.onnx", [1, 1000])
    foreign(tmp_path / "two.onnx", [1, 252, 9], inputs=2)
    messages = {
        "missing": "no such file",
        "truncated": "not a valid ONNX file",
        "text": "not a valid ONNX file",
        "empty": "not a valid ONNX file",
        "classifier": r"its output is \(1, 1000\)",
        "two": "one image input",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=f"{name}.onnx.*{message}"):
            load_model(tmp_path / f"{name}.onnx")


def test_suffixes_choose_the_format():
    assert backend_for("a/B.ONNX") is BACKEND and backend_for("best.pt") is None and backend_for("best") is None


def test_sizes_fit_the_coarsest_map_of_any_row(tmp_path):
    """The head of yolov5-p34 reads strides 8 and 16 only, but its backbone goes down to 32."""
    model = build_model("yolov5-p34.yaml", nc=1)
    assert model.stride.tolist() == [8, 16] and model.size_multiple == 32
    with pytest.raises(UserError, match="multiples of 32"):
        BACKEND.export(model, tmp_path / "a.onnx", ExportOptions(size=(64, 80)))


def test_an_empty_batch_gives_no_rows(model, exported):
    for _, path in exported.values():
        loaded = BACKEND.load(path)
        rows = loaded.predictions(np.zeros((1, 3, 64, 96), np.float32))
        assert loaded.predictions(np.zeros((0, 3, 64, 96), np.float32)).shape == (0, *rows.shape[1:])


def test_gray_images(tmp_path):
    torch.manual_seed(0)
    model = build_model(
        {
            "nc": 2,
            "ch": 1,
            "anchors": 1,
            "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
            "head": [[[0], 1, "Detect", ["nc", "anchors"]]],
        }
    )
    model.eval().names, options = ["a", "b"], ExportOptions(size=(32, 32))
    path = BACKEND.export(model, tmp_path / "gray.onnx", options)
    loaded = BACKEND.load(path)
    assert loaded.channels == 1 and verify(model, loaded, path, options) < 1e-4
    assert (opencv_difference(loaded, path, options) or 0) < 1e-3


@pytest.mark.parametrize("name", ["*/_ORT_MEM_ADDR_/*", "../weights.bin", "/etc/passwd", "C:\\weights.bin", ".."])
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_weights_outside_the_folder_are_refused(name, backend, tmp_path):
    """Before the runtime sees the file: one form of name is an address in memory to OpenVINO, which crashes."""
    pytest.importorskip(BACKENDS[backend].package)
    weight = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=name)
    image = onnx.helper.make_tensor_value_info("images", 1, [1, 3, 32, 32])
    output = onnx.helper.make_tensor_value_info("output0", 1, [1, 3, 32, 32])
    node = onnx.helper.make_node("Mul", ["images", "w"], ["output0"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [image], [output], [weight]))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        UserError, match=r"a\.onnx: has its weights in .*expected the name of a file in the same folder"
    ):
        BACKENDS[backend].load(tmp_path / "a.onnx")


@pytest.mark.parametrize("opset", [11, 20])
def test_other_operator_sets_give_the_same_numbers(model, tmp_path, opset):
    options = ExportOptions((64, 96), opset=opset)
    path = BACKEND.export(model, tmp_path / "a.onnx", options)
    assert onnx.load(str(path)).opset_import[0].version == opset
    assert verify(model, BACKEND.load(path), path, options) < 1e-4


@pytest.mark.parametrize("place", [b"file_sha256", b"_sha256\x12@", b"made_by"])
def test_a_flipped_bit_in_the_metadata_is_reported(tiny_weights, tmp_path, place, caplog):
    model = build_from_weights(load_weights(tiny_weights))
    path = BACKENDS["onnx"].export(model, tmp_path / "a.onnx", ExportOptions((64, 64)))
    data, start = path.read_bytes(), path.read_bytes().rindex(place)
    for offset in (0, len(place) - 1, len(place) + 3):
        for bit in (1, 64, 128):
            damaged = bytearray(data)
            damaged[start + offset] ^= bit
            path.write_bytes(damaged)
            caplog.clear()
            try:
                BACKENDS["onnx"].load(path)
            except UserError:
                continue
            assert "changed after its export" in caplog.text, (offset, bit)


def test_names_that_are_not_utf8_are_one_message(tiny_weights, tmp_path, capfd):
    model = build_from_weights(load_weights(tiny_weights))
    path = BACKENDS["onnx"].export(model, tmp_path / "a.onnx", ExportOptions((64, 64)))
    path.write_bytes(path.read_bytes().replace(b"strides", b"stride\xf3", 1))
    capfd.readouterr()
    with pytest.raises(UserError, match="not a valid ONNX file"):
        BACKENDS["onnx"].load(path)
    assert "EP Error" not in "".join(capfd.readouterr())
