"""ncnn folders: the numbers of torch, and damaged, hostile and foreign files. Conversion needs pnnx and ncnn."""

import copy
import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from graftdet.models import ModelSpec, build_model, load_model
from graftdet.models.backends import BACKENDS, ExportError, ExportOptions, backend_for
from graftdet.models.backends.ncnn import BIN, DESCRIPTION, PARAM, check_graph
from graftdet.models.backends.receipt.verify import noise_images
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

BACKEND = BACKENDS["ncnn"]
GRAPH = b"""7767517
3 3
Input in0 0 1 in0
Convolution conv_0 1 1 in0 1 0=16 1=3 6=432
InnerProduct fc 1 1 1 out0 0=10 2=160
"""


@pytest.fixture(scope="module")
def trained(tiny_weights):
    return build_from_weights(load_weights(tiny_weights)).eval()


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    return BACKEND.export(trained, tmp_path_factory.mktemp("ncnn") / "ä b_ncnn_model", ExportOptions((64, 96)))


@pytest.fixture
def copied(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / exported.name)


def test_the_same_numbers_as_torch(trained, exported):
    assert sorted(path.name for path in exported.iterdir()) == [DESCRIPTION, BIN, PARAM]
    loaded = load_model(exported / PARAM)
    assert (loaded.names, loaded.stride, loaded.fixed_size, loaded.fixed_batch) == (trained.names, 16, (64, 96), 1)
    images = noise_images(3, (64, 96))
    with torch.no_grad():
        expected = [part.numpy() for part in trained(torch.from_numpy(images))]
    for found, wanted in zip(loaded.forward(images), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-2, rtol=1e-3)
    content = json.loads((exported / DESCRIPTION).read_text(encoding="utf-8"))
    assert content["blobs"] == {"input": "in0", "outputs": ["out0"]} and content["metadata"]["nc"] == "3"


@pytest.mark.parametrize(("output", "layout"), [("raw", "maps"), ("raw", "cells"), ("split", "maps")])
def test_every_output(trained, exported, tmp_path, output, layout):
    options = ExportOptions((64, 96), output=output, raw_layout=layout)
    loaded = load_model(BACKEND.export(trained, tmp_path / "a_ncnn_model", options))
    images = noise_images(1, (64, 96))
    with torch.no_grad():
        expected = [part.numpy() for part in trained(torch.from_numpy(images))]
    for found, wanted in zip(loaded.forward(images), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-2, rtol=1e-3)


def test_blocks_with_slices_of_steps(tiny_yaml, exported, tmp_path):
    text = tiny_yaml.replace("Conv, [8, 6, 2, 2]", "Focus, [8, 3]").replace("Conv, [24, 3, 2]", "GSConv, [24, 3, 2]")
    text = text.replace("[-1, 1, Conv, [16, 3, 2]]\n  - [-1, 1, C3", "[-1, 1, SPD, []]\n  - [-1, 1, C3")
    model = build_model(ModelSpec.from_text(text, "slices.yaml")).eval()
    images = noise_images(1, (64, 64))
    loaded = load_model(BACKEND.export(model, tmp_path / "a_ncnn_model", ExportOptions((64, 64))))
    with torch.no_grad():
        boxes, scores = (part.numpy() for part in model(torch.from_numpy(images)))
    np.testing.assert_allclose(loaded.forward(images)[0], boxes, atol=1e-2, rtol=1e-3)
    np.testing.assert_allclose(loaded.forward(images)[1], scores, atol=1e-4)


class BesselFunction(torch.nn.Module):
    def forward(self, x):
        return torch.special.i0(x)


def test_what_ncnn_lacks_is_named_and_nothing_is_written(trained, exported, tmp_path):
    model = copy.deepcopy(trained)
    model.model[0].act = BesselFunction()
    with pytest.raises(ExportError, match="a_ncnn_model: ncnn cannot run the model: layer .*i0 not exists"):
        BACKEND.export(model, tmp_path / "a_ncnn_model", ExportOptions((64, 64)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [PARAM, BIN, DESCRIPTION])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "changed"])
def test_damaged_folders_are_one_line(copied, name, damage):
    path = copied / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(data) // 2
        changed = data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :]
        path.write_bytes({"empty": b"", "truncated": data[:middle], "changed": changed}[damage])
    if (name, damage) == (DESCRIPTION, "changed"):
        path.write_bytes(data.replace(b'"input"', b'"imput"'))
    with pytest.raises(UserError) as error:
        load_model(copied)
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("cut", [0, 30, -200, -1])
def test_files_with_a_matching_digest_are_checked_all_the_same(copied, cut):
    for name, other in ((PARAM, BIN), (BIN, PARAM)):
        data = (copied / name).read_bytes()
        (copied / name).write_bytes(data[:cut])
        content = json.loads((copied / DESCRIPTION).read_text(encoding="utf-8"))
        content["sha256"][name] = hashlib.sha256(data[:cut]).hexdigest()
        (copied / DESCRIPTION).write_text(json.dumps(content), encoding="utf-8")
        if not (name == PARAM and cut == -1):  # the last line break is not needed
            with pytest.raises(UserError, match="valid ncnn graph|weights|ncnn cannot run"):
                load_model(copied)
        (copied / name).write_bytes(data)
        content["sha256"][name] = hashlib.sha256(data).hexdigest()
        (copied / DESCRIPTION).write_text(json.dumps(content), encoding="utf-8")
    load_model(copied)


def test_descriptions_that_contradict_the_graph(copied):
    content = json.loads((copied / DESCRIPTION).read_text(encoding="utf-8"))
    for change in (
        {"input": [1, 3, 64, 64]},
        {"input": [2, 3, 64, 96]},
        {"input": [1, 3, None, None]},
        {"outputs": [["output0", [1, None, 8]]]},
    ):
        (copied / DESCRIPTION).write_text(json.dumps({**content, **change}), encoding="utf-8")
        with pytest.raises(UserError, match="states two sizes|of a fixed size|of fixed sizes"):
            load_model(copied)
    for outputs in ([["output0", [1, 361, 8]]], [["boxes", [1, 360, 4]], ["scores", [1, 360, 3]]]):
        metadata = {**content["metadata"], "output": "decoded" if len(outputs) == 1 else "split"}
        changed = {**content, "outputs": outputs, "metadata": metadata}
        (copied / DESCRIPTION).write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(UserError, match="its output output0 is|ncnn fails on an image"):
            load_model(copied).forward(noise_images(1, (64, 96)))


def test_a_folder_runs_without_this_project(exported):
    code = (
        "import sys, ncnn, numpy as np\nnet = ncnn.Net()\n"
        "assert not net.load_param(sys.argv[1]) and not net.load_model(sys.argv[2])\n"
        "extractor = net.create_extractor()\nextractor.input('in0', ncnn.Mat(np.zeros((3, 64, 96), np.float32)))\n"
        "print(np.array(extractor.extract('out0')[1]).shape)"
    )
    command = [sys.executable, "-c", code, exported / PARAM, exported / BIN]
    done = subprocess.run(command, cwd=exported, capture_output=True, text=True)
    assert done.stdout.strip() == "(360, 8)", done.stderr


def test_the_graph_is_checked_before_ncnn_reads_it():
    check_graph("a.param", GRAPH, 592 * 4)
    with pytest.raises(UserError, match=r"^a.param: needs 592 weights, but its model.ncnn.bin has 591 bytes$"):
        check_graph("a.param", GRAPH, 591)
    huge = GRAPH.replace(b"InnerProduct fc 1 1 1 out0 0=10 2=160", b"MemoryData m 0 1 out0 0=99999 1=99999 2=99999")
    with pytest.raises(UserError, match="needs 1e\\+15 weights"):
        check_graph("a.param", huge, 2**40)
    for old, new in (
        (b"7767517", b"7767518"),
        (b"3 3", b"4 3"),
        (b"3 3", b""),
        (b"6=432", b"6"),
        (b"1 1 in0", b"x 1 in0"),
    ):
        with pytest.raises(UserError, match="a.param: is not a valid ncnn graph"):
            check_graph("a.param", GRAPH.replace(old, new, 1), 10**6)
    for length in range(0, len(GRAPH) - 30, 7):
        with pytest.raises(UserError, match="is not a valid ncnn graph"):
            check_graph("a.param", GRAPH[:length], 10**6)


def test_names_of_folders():
    for name in ("best_ncnn_model", "x/best_ncnn_model/", "best_ncnn_model/model.ncnn.param", "A_NCNN_MODEL"):
        assert backend_for(name) is BACKEND
    assert backend_for("best.param") is None and backend_for("best_ncnn_model.pt") is None


def test_fixed_sizes_and_single_images(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ncnn", object())
    monkeypatch.setitem(sys.modules, "pnnx", type("pnnx", (), {"EXEC_PATH": "pnnx"}))
    for options, message in (
        (ExportOptions((64, 64), dynamic=True), "--dynamic: ncnn files have a fixed size"),
        (ExportOptions((64, 64), batch_size=2), "--batch-size 2: ncnn files take one image per call"),
        (ExportOptions((64, 64), output="nms"), "--output nms: ncnn has raw, split, decoded"),
    ):
        with pytest.raises(UserError, match=message):
            BACKEND.export(trained, tmp_path / "a_ncnn_model", options)


def test_without_its_packages(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ncnn", None)
    for call in (
        lambda: load_model(tmp_path / "a_ncnn_model"),
        lambda: BACKEND.export(trained, tmp_path / "a_ncnn_model", ExportOptions((64, 64))),
    ):
        with pytest.raises(UserError, match="ncnn files need ncnn; install it with 'pip install ncnn'"):
            call()
    monkeypatch.setitem(sys.modules, "ncnn", object())
    with pytest.raises(UserError, match="a_ncnn_model: no such folder"):
        load_model(tmp_path / "a_ncnn_model")
