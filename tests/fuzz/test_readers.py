"""Readers of files that may come from strangers: damaged content gives a `UserError` or a valid result, within seconds.

`FUZZ_EXAMPLES=5000 python -m pytest tests/fuzz` tries more, at random.
"""

import copy
import json
import os
import time
import zipfile

import numpy as np
import pytest
import torch
import yaml

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from graftdet.data.dataset_config import load_data_config, open_split  # noqa: E402
from graftdet.models import build_model  # noqa: E402
from graftdet.models.analysis.trainings import best_epoch  # noqa: E402
from graftdet.models.backends.layouts.description import Description  # noqa: E402
from graftdet.models.backends.ncnn import check_graph  # noqa: E402
from graftdet.models.spec.model_spec import ModelSpec  # noqa: E402
from graftdet.models.weights.weights_file import load_weights  # noqa: E402
from graftdet.utils.checkpoint import load_checkpoint, to_plain  # noqa: E402
from graftdet.utils.errors import UserError  # noqa: E402
from graftdet.utils.hyperparameters import load_hyperparameters  # noqa: E402
from graftdet.utils.images.io import write_image  # noqa: E402
from graftdet.utils.training.results import ResultsTable, read_column  # noqa: E402
from graftdet.utils.visualization.plots import read_results  # noqa: E402

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SECONDS = 15

MODEL = """nc: 2
depth_multiple: 1.0
width_multiple: 1.0
anchors:
  - [10,13, 16,30]
  - [30,61, 62,45]
backbone:
  [[-1, 1, Conv, [8, 3, 2]],
   [-1, 1, Conv, [8, 3, 2]],
   [-1, 2, C3, [8]]]
head:
  [[-1, 1, Conv, [8, 3, 2]],
   [[2, 3], 1, Detect, [nc, anchors]]]
"""
DATA = "path: .\ntrain: images/train\nval: images/val\nnc: 2\nnames: [cat, dog]\n"
HYPERPARAMETERS = "lr0: 0.01\nmomentum: 0.9\nmosaic: 1.0\nhsv_h: 0.015\nanchors: 3\n"
VOC = (
    "<annotation><filename>a.png</filename><size><width>40</width><height>20</height><depth>3</depth></size><object>"
    "<name>cat</name><difficult>0</difficult><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>15</ymax></bndbox>"
    "</object></annotation>"
)
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 20}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 4, 10, 9], "area": 90, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "cat"}],
}
ROWS = "0 0.5 0.5 0.25 0.5\n1 0.1 0.2 0.2 0.4\n0 0.1 0.1 0.4 0.1 0.4 0.4 0.1 0.4\n"
TABLE = "epoch,time,val/AP50-95,val/AP50,val/precision,val/recall\n1,2.5,0.25,0.5,0.5,0.5\n2,5,0.5,0.6,0.5,0.5\n"
ODD_TEXTS = [
    *("-1", "0", "1e999", "nan", "9" * 5000, "1_0", "0x10", "null", "true", "[]", "{}", "''", "!!binary x", "&a", "*a"),
    *(
        "[[[[[[",
        "]]",
        "\0",
        "\x1b",
        "\ud800",
        "\u0660",
        "\N{ZERO WIDTH SPACE}",
        "- ",
        ": ",
        "#",
        "\t",
        "\n",
        '"',
        "<",
        ">",
        "&x;",
    ),
]
ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.sampled_from([10**400, -(10**30), [[[[1]]]], {"a": {}}, [None], "x" * 1000, float("inf"), b"\xff"]),
)


def bounded(default):
    """Settings of a test: few examples that are always the same, or as many as $FUZZ_EXAMPLES at random."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=EXAMPLES or default,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=checks,
    )


@st.composite
def damaged_text(draw, text):
    """`text` as bytes with parts replaced, removed and repeated."""
    data = text if isinstance(text, bytes) else text.encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        end = min(start + draw(st.integers(0, 12)), len(data))
        odd = st.sampled_from(ODD_TEXTS).map(lambda odd: odd.encode("utf-8", "surrogatepass"))
        new = draw(st.one_of(odd, st.binary(max_size=8), st.just(data[start:end] * 3), st.just(b"")))
        data = data[:start] + new + data[end:]
    return data


@st.composite
def damaged_values(draw, values):
    """A copy of nested lists and dicts with one or two values replaced or removed."""
    root = {"": copy.deepcopy(values)}
    for _ in range(draw(st.integers(1, 2))):
        node, key = root, ""
        while isinstance(node[key], (dict, list)) and node[key] and draw(st.integers(0, 5)):
            node = node[key]
            key = draw(
                st.sampled_from(sorted(node, key=str)) if isinstance(node, dict) else st.integers(0, len(node) - 1)
            )
        if node is not root and draw(st.integers(0, 4)) == 0:
            del node[key]
        else:
            node[key] = copy.deepcopy(draw(ODD_VALUES))
    return root[""]


def read(call, *arguments):
    """Call a reader; what it raises must be a `UserError` of one line, within `SECONDS`."""
    start = time.monotonic()
    try:
        call(*arguments)
    except UserError as error:
        assert "\n" not in error.describe() or error.describe().count("\n") < 40
    assert time.monotonic() - start < SECONDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset of one image per split."""
    root = tmp_path_factory.mktemp("fuzz")
    for split in ("train", "val"):
        write_image(root / "images" / split / "a.png", np.full((20, 40, 3), 90, np.uint8))
        (root / "labels" / split).mkdir(parents=True)
        (root / "labels" / split / "a.txt").write_text(ROWS)
    (root / "data.yaml").write_text(DATA)
    return root


@bounded(150)
@given(damaged_text(MODEL))
def test_model_yaml(data):
    read(lambda: ModelSpec.from_text(data.decode("utf-8", "replace"), "x.yaml"))


@bounded(40)
@given(damaged_values(yaml.safe_load(MODEL)))
def test_model_of_a_yaml(values):
    read(lambda: build_model(values if isinstance(values, dict) else {}))


@bounded(80)
@given(damaged_text(DATA))
def test_data_yaml(folder, data):
    (folder / "odd.yaml").write_bytes(data)
    read(lambda: open_split(load_data_config(folder / "odd.yaml"), "train"))


@bounded(100)
@given(damaged_text(HYPERPARAMETERS))
def test_hyperparameters(folder, data):
    (folder / "hyp.yaml").write_bytes(data)
    read(load_hyperparameters, folder / "hyp.yaml")


@bounded(100)
@given(damaged_text(ROWS))
def test_label_rows(folder, data):
    path = folder / "labels" / "train" / "a.txt"
    path.write_bytes(data)
    read(lambda: open_split(load_data_config(folder / "data.yaml"), "train"))


@pytest.fixture(scope="module")
def coco(folder):
    """A data YAML of a COCO JSON."""
    path = folder / "coco.yaml"
    path.write_text(
        "train: {images: images/train, annotations: a.json}\nval: {images: images/val, annotations: a.json}\n"
    )
    return path


@bounded(100)
@given(
    st.one_of(
        damaged_text(json.dumps(COCO)),
        damaged_values(COCO).map(lambda values: json.dumps(values, default=str).encode()),
    )
)
def test_coco_json(folder, coco, data):
    (folder / "a.json").write_bytes(data)
    read(lambda: open_split(load_data_config(coco), "train").ground_truth())


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """A dataset in the layout of Pascal VOC."""
    root = tmp_path_factory.mktemp("voc")
    write_image(root / "JPEGImages" / "a.png", np.full((20, 40, 3), 90, np.uint8))
    (root / "Annotations").mkdir()
    (root / "data.yaml").write_text("train: JPEGImages\nval: JPEGImages\nnames: [cat]\n")
    return root


@bounded(100)
@given(damaged_text(VOC))
def test_voc_xml(voc, data):
    (voc / "Annotations" / "a.xml").write_bytes(data)
    read(lambda: open_split(load_data_config(voc / "data.yaml"), "train"))


@bounded(100)
@given(damaged_text(TABLE))
def test_results_csv(folder, data):
    path = folder / "results.csv"
    path.write_bytes(data)
    for call in (
        read_results,
        best_epoch,
        lambda path: read_column(path, "val/AP50-95"),
        lambda path: ResultsTable(path, 2),
    ):
        path.write_bytes(data)
        read(call, path)


@pytest.fixture(scope="module")
def checkpoint():
    """The content of a checkpoint of a small model."""
    model = build_model(yaml.safe_load(MODEL))
    state = {name: value for name, value in list(model.state_dict().items())}
    return to_plain(
        {
            **{
                "format": "graftdet",
                "version": 1,
                "yaml": MODEL,
                "names": ["a", "b"],
                "nc": 2,
                "model": state,
                "ema": None,
            },
            **{"options": {"img": 64}, "hyperparameters": {"lr0": 0.1}, "versions": {}, "epoch": 1, "best": 0.5},
            **{"stopping": {"best": 0.5}, "class_ap": [0.5, 0.5], "optimizer": {"state": {}}, "finished": False},
        }
    )


@bounded(60)
@given(data=st.data())
def test_values_of_a_checkpoint(folder, checkpoint, data):
    content = data.draw(damaged_values({**checkpoint, "model": dict(list(checkpoint["model"].items())[:3])}))
    path = folder / "values.pt"
    torch.save(content, path)
    read(load_checkpoint, path)
    read(lambda: load_weights(path).read_spec())


@bounded(80)
@given(data=st.data())
def test_pickle_of_weights(folder, checkpoint, data):
    path, damaged = folder / "whole.pt", folder / "damaged.pt"
    if not path.exists():
        torch.save({"model": checkpoint["model"], "names": ["a", "b"]}, path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(damaged, "w") as copied:
        for name in archive.namelist():
            content = archive.read(name)
            copied.writestr(name, data.draw(damaged_text(content)) if name.endswith("data.pkl") else content)
    read(load_weights, damaged)


@bounded(60)
@given(data=st.data())
def test_bytes_of_weights(folder, checkpoint, data):
    path = folder / "bytes.pt"
    torch.save({"model": checkpoint["model"]}, path)
    path.write_bytes(data.draw(damaged_text(path.read_bytes())))
    read(load_weights, path)


def test_undamaged_files_are_read(folder, coco, voc, checkpoint):
    (folder / "labels" / "train" / "a.txt").write_text(ROWS)
    (folder / "a.json").write_text(json.dumps(COCO))
    (voc / "Annotations" / "a.xml").write_text(VOC)
    counts = [
        len(open_split(load_data_config(path), "train").samples[0].boxes)
        for path in (folder / "data.yaml", coco, voc / "data.yaml")
    ]
    assert counts == [3, 1, 1]
    torch.save(checkpoint, folder / "own.pt")
    assert load_weights(folder / "own.pt").nc == 2


PARAM = b"""7767517
3 3
Input in0 0 1 in0
Convolution conv_0 1 1 in0 1 0=16 1=3 6=432
MemoryData fc 0 1 out0 0=10 2=16
"""
DESCRIPTION = {"input": [1, 3, 64, 64], "outputs": [["output0", [1, 240, 7]]], "metadata": {"nc": "2", "names": "[]"}}


@bounded(150)
@given(damaged_text(PARAM), st.integers(0, 10**7))
def test_ncnn_graph(data, num_bytes):
    read(check_graph, "a.param", data, num_bytes)


@bounded(100)
@given(damaged_values(DESCRIPTION))
def test_descriptions_of_exported_files(values):
    read(lambda: Description.from_json(json.dumps(values, default=repr), "a.pte"))
