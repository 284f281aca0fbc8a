"""LiteRT files: what the converter is given, its failures, damaged files, and with converter or runtime real numbers."""

import io
import json
import shutil
import sys
import zipfile

import numpy as np
import pytest
import torch

from graftdet.models import load_model
from graftdet.models.backends import BACKENDS, ExportError, ExportOptions
from graftdet.models.backends.layouts.description import Description
from graftdet.models.backends.litert import ENVIRONMENT, SCRIPT, split_description, with_description
from graftdet.models.backends.metadata import make_metadata
from graftdet.models.backends.receipt.verified_export import Evidence, export_verified
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError
from graftdet.utils.files import cache_folder

BACKEND = BACKENDS["litert"]
OPTIONS = ExportOptions((32, 32), output="split")
SHAPES = {"boxes": [1, 768, 4], "scores": [1, 1024, 3]}
USER_CACHE = str(cache_folder())  # read before the fixture of all tests replaces it
IS_CONVERTER_READY = ENVIRONMENT.is_ready


@pytest.fixture(scope="module")
def trained(tiny_weights):
    return build_from_weights(load_weights(tiny_weights)).eval()


@pytest.fixture(scope="module")
def description(trained):
    return Description([1, 3, 32, 32], list(SHAPES.items()), make_metadata(trained, OPTIONS))


def reshaping_model(image, outputs):
    """The bytes of a LiteRT model whose outputs are its input, reshaped."""
    flatbuffers = pytest.importorskip("flatbuffers")
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    code, graph, model = schema.OperatorCodeT(), schema.SubGraphT(), schema.ModelT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
    code.version, model.version, model.operatorCodes, model.buffers = 1, 3, [code], [schema.BufferT()]
    graph.tensors, graph.operators, model.subgraphs = [], [], [graph]

    def add_tensor(name, shape, data=None):
        tensor, buffer = schema.TensorT(), schema.BufferT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), 0
        tensor.type = schema.TensorType.FLOAT32 if data is None else schema.TensorType.INT32
        if data is not None:
            buffer.data = np.frombuffer(np.array(data, np.int32).tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    graph.inputs, graph.outputs = [add_tensor("image", image)], []
    for name, shape in outputs.items():
        operator = schema.OperatorT()
        operator.inputs = [0, add_tensor("shape", [len(shape)], shape)]
        operator.outputs = [add_tensor(name, shape)]
        operator.opcodeIndex = 0
        graph.operators.append(operator)
        graph.outputs += operator.outputs
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex, model.signatureDefs = "serving_default", 0, [signature]
    signature.inputs, signature.outputs = [], []
    for maps, names, indices in (
        (signature.inputs, ["images"], graph.inputs),
        (signature.outputs, outputs, graph.outputs),
    ):
        for name, index in zip(names, indices, strict=True):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            maps.append(entry)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture
def converter(tmp_path, monkeypatch):
    """`converter(lines)`: replaces the interpreter of the converter's environment by a shell script."""
    if sys.platform == "win32":
        pytest.skip("a shell script")
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / "cache"))

    def write(lines):
        python = ENVIRONMENT.path / "bin" / "python"
        (ENVIRONMENT.path / "lib/python3.11/site-packages/litert_torch-0.10.0.dist-info").mkdir(parents=True)
        python.parent.mkdir()
        python.write_text(f"#!/bin/sh\n{lines}\n")
        python.chmod(0o755)
        return tmp_path

    return write


def test_the_converter_gets_the_program_and_the_names(trained, converter):
    folder = converter(
        'printf "%s\\n" "$@" > "$GRAFTDET_CACHE/arguments"; cp "$3" "$GRAFTDET_CACHE"; printf model > "$4"'
    )
    path = BACKEND.export(trained, folder / "ä b.tflite", ExportOptions((64, 96), batch_size=2, output="split"))
    flag, script, program, target, *names = (folder / "cache" / "arguments").read_text().splitlines()
    assert (flag, script, names) == ("-I", str(SCRIPT), ["boxes", "scores"])
    assert program.endswith(".pt2") and target.endswith(".tflite")
    (images,), _ = torch.export.load(folder / "cache" / "model.pt2").example_inputs
    assert images.shape == (2, 3, 64, 96)
    data = path.read_bytes()
    assert data.startswith(b"model")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:  # as other programs read it
        content = json.loads(archive.read("metadata.json"))
    assert content["input"] == [2, 3, 64, 96] and content["metadata"]["names"].startswith("{0: 'circle'")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("echo Traceback >&2; echo 'ValueError: no such operation' >&2; exit 1", "ValueError: no such operation"),
        ("kill -11 $$", "ends with status -11"),
        ("true", "ends with status 0"),
    ],
)
def test_a_converter_that_fails_leaves_nothing(trained, converter, lines, reason):
    folder = converter(lines)
    with pytest.raises(ExportError) as error:
        export_verified(trained, "litert", folder / "a.tflite", OPTIONS, Evidence("best.pt"))
    assert error.value.reason == f"litert-torch cannot convert the model: {reason}"
    assert [one.name for one in folder.iterdir()] == ["cache"]


def test_without_the_environment(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="--include litert: litert-torch needs an environment of its own"):
        BACKEND.export(trained, tmp_path / "a.tflite", OPTIONS)
    with pytest.raises(UserError, match="--dynamic: litert files have a fixed size"):
        BACKEND.export(trained, tmp_path / "a.tflite", ExportOptions((32, 32), dynamic=True))
    assert not (tmp_path / "a.tflite").exists()


def test_a_digest_covers_every_byte(description, tmp_path):
    small = Description([1, 3, 8, 8], [("output0", [1, 4, 8])], {"made_by": "graftdet"})
    data = with_description(b"abcdTFL3 weights", small)
    assert data == with_description(b"abcdTFL3 weights", small)
    assert split_description(tmp_path, data) == (b"abcdTFL3 weights", small)
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(UserError, match="is damaged|was not exported by this project"):
            split_description(tmp_path, changed)
    for other in (b"", b"abcdTFL3", data[:-1], data + b"\0", b"x" + data, with_description(b"no model", small)):
        with pytest.raises(UserError, match="is damaged|was not exported by this project"):
            split_description(tmp_path, other)


def test_an_archive_that_expands_is_refused(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", " " * 10_000_000)
    with pytest.raises(UserError, match="was not exported by this project"):
        split_description(tmp_path, file.getvalue())


def test_outputs_are_read_by_name(description, tmp_path):
    path = tmp_path / "ä b.tflite"
    path.write_bytes(with_description(reshaping_model([1, 3, 32, 32], dict(reversed(SHAPES.items()))), description))
    loaded = load_model(path)
    assert (loaded.names, loaded.stride, loaded.fixed_size) == (["circle", "square", "triangle"], 16, (32, 32))
    images = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    boxes, scores = loaded._run(images)
    np.testing.assert_array_equal(boxes, images.reshape(1, 768, 4))
    np.testing.assert_array_equal(scores, images.reshape(1, 1024, 3))
    loaded._run(1 - images)
    np.testing.assert_array_equal(boxes, images.reshape(1, 768, 4))
    with pytest.raises(UserError, match="LiteRT fails on an input of 1x3x9x9"):
        loaded._run(np.zeros((1, 3, 9, 9), np.float32))
    with pytest.raises(UserError, match="--device 0: LiteRT files run on the CPU only"):
        load_model(path, device="0")


@pytest.mark.parametrize(
    ("image", "outputs", "reason"),
    [
        ([1, 3, 32, 32], {"boxes": [1, 768, 4], "scores": [2**15, 2**15]}, "'scores' is 32768x32768, more than"),
        ([1, 3, 32, 64], SHAPES, "its input and outputs are .*, its description states"),
        ([1, 3, 32, 32], {"boxes": [1, 768, 4], "other": [1, 1024, 3]}, "its input and outputs are"),
        ([1, 3, 32, 32], {**SHAPES, "scores": [1, 3072, 3]}, "its input and outputs are"),
        (None, None, "is not a model that LiteRT can run"),
    ],
)
def test_hostile_models_are_one_line(description, tmp_path, image, outputs, reason):
    pytest.importorskip("ai_edge_litert")
    content = reshaping_model(image, outputs) if image else b"abcdTFL3 weights"
    path = tmp_path / "a.tflite"
    path.write_bytes(with_description(content, description))
    with pytest.raises(UserError, match=rf"^[^\n]*a\.tflite: [^\n]*{reason}[^\n]*$"):
        load_model(path)


def test_files_of_other_programs_and_missing_ones(tmp_path, description, monkeypatch):
    path = tmp_path / "a.tflite"
    with pytest.raises(UserError, match="a.tflite: no such file"):
        load_model(path)
    path.write_bytes(b"\x1c\0\0\0TFL3 of another program")
    with pytest.raises(UserError, match=r"^[^\n]*a\.tflite: was not exported by this project, or is incomplete$"):
        load_model(path)
    path.write_bytes(with_description(b"abcdTFL3 weights", description))
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(UserError, match="need ai-edge-litert .*install it with 'pip install ai-edge-litert'"):
        load_model(path)


@pytest.mark.skipif(not IS_CONVERTER_READY, reason="the converter is not installed, see export.py --allow-install")
@pytest.mark.parametrize("output", ["raw", "split", "decoded"])
def test_the_same_numbers_as_torch(trained, tmp_path, monkeypatch, output):
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setenv("GRAFTDET_CACHE", USER_CACHE)
    path = tmp_path / "a.tflite"
    options = ExportOptions((64, 96), batch_size=2, output=output)
    loaded, receipt = export_verified(trained, "litert", path, options, Evidence("best.pt"))
    assert receipt.was_run and receipt.difference < 1e-4 and receipt.problems() == []
    assert receipt.runtime.startswith("ai_edge_litert 2") and loaded.fixed_batch == 2
    copied = shutil.copy(path, tmp_path / "b.tflite")
    assert load_model(copied).names == trained.names
