"""Published files are read as data: their facts come out, nothing in them runs."""

import codecs
import pickle
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from graftdet.models.weights.yolov5_checkpoint import read_published
from graftdet.utils.errors import UserError
from graftdet.utils.untrusted.torch_archive import read_archive


@pytest.fixture
def foreign(monkeypatch):
    """Modules named as the original's, so that torch.save pickles objects of `models.yolo` and `models.common`."""
    classes = {}
    for module, names in {"models.yolo": ("DetectionModel", "Detect"), "models.common": ("Conv",)}.items():
        fake = types.ModuleType(module)
        for name in names:
            classes[name] = type(name, (nn.Module,), {"__module__": module, "__qualname__": name})
            setattr(fake, name, classes[name])
        monkeypatch.setitem(sys.modules, module, fake)
    return types.SimpleNamespace(**classes)


def make_model(foreign):
    conv = foreign.Conv()
    conv.conv, conv.bn, conv.act = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.SiLU()
    detect = foreign.Detect()
    detect.m = nn.ModuleList([nn.Conv2d(4, 21, 1)])
    detect.register_buffer("anchors", torch.rand(1, 3, 2))
    detect.register_buffer("grid", torch.zeros(1), persistent=False)
    model = foreign.DetectionModel()
    model.model = nn.Sequential(conv, detect)
    model.yaml = {"nc": 2, "ch": 3, "anchors": [[10, 13]], "backbone": [[-1, 1, "Conv", [4, 3, None]]], "head": []}
    model.names, model.nc = {0: "cat", 1: "dog"}, 2
    model.stride = torch.tensor([8.0])
    return model


def save(path, content, **options):
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("where", ["model", "ema"])
def test_weights_names_and_yaml_of_a_published_file_are_read(foreign, tmp_path, where, protocol):
    model = make_model(foreign).half()
    expected = {name: value.float() for name, value in model.state_dict().items()}
    content = {"epoch": -1, "best_fitness": np.array([0.5]), "ema": None, "model": None, "date": None, where: model}
    result = read_published(save(tmp_path / "yolo näme.pt", content, pickle_protocol=protocol))
    assert list(result.state) == list(expected)
    assert "model.1.grid" not in result.state
    for name, value in expected.items():
        assert torch.equal(result.state[name], value), name
        assert result.state[name].dtype in (torch.float32, torch.int64)
    assert result.names == ["cat", "dog"] and result.nc == 2 and result.stride == [8.0]
    assert result.yaml == {
        "nc": 2,
        "ch": 3,
        "anchors": [[10, 13]],
        "backbone": [[-1, 1, "Conv", [4, 3, None]]],
        "head": [],
    }


@pytest.mark.parametrize(
    "options",
    [
        {"train_args": {"imgsz": 320}},
        {"opt": {"img_size": [256, 320]}},
        {"opt": types.SimpleNamespace(imgsz=320)},
        {"train_args": {"imgsz": "320"}, "opt": {"imgsz": 320}},
    ],
)
def test_the_training_size_is_read_from_the_options(foreign, tmp_path, options):
    assert read_published(save(tmp_path / "a.pt", {"model": make_model(foreign), **options})).size == 320
    assert read_published(save(tmp_path / "b.pt", {"model": make_model(foreign), "opt": {"imgsz": True}})).size is None


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_published_file_in_the_format_of_before_torch_1_6(foreign, tmp_path):
    model = make_model(foreign)
    result = read_published(save(tmp_path / "old.pt", {"model": model}, _use_new_zipfile_serialization=False))
    assert all(torch.equal(result.state[name], value) for name, value in model.state_dict().items())
    assert result.names == ["cat", "dog"] and result.yaml == model.yaml


def test_tensors_in_the_format_of_before_torch_1_6(tmp_path):
    state = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).state_dict()
    path = save(tmp_path / "old.pth", state, _use_new_zipfile_serialization=False)
    assert all(torch.equal(value, state[name]) for name, value in read_published(path).state.items())
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=r"old\.pth"):
        read_published(path)
    trace = tmp_path / "trace"
    bad = {"a": Runs(__import__("os").system, f"touch {trace}")}
    with pytest.raises(UserError, match="nothing in it was executed"):
        read_published(save(tmp_path / "bad.pth", bad, _use_new_zipfile_serialization=False))
    assert not trace.exists()


def test_reading_needs_none_of_the_original_classes(foreign, tmp_path, monkeypatch):
    path = save(tmp_path / "a.pt", {"model": make_model(foreign)})
    for name in ("models.yolo", "models.common"):
        monkeypatch.delitem(sys.modules, name)
    assert len(read_published(path).state) == 9
    assert "models.yolo" not in sys.modules


def test_a_model_inside_data_parallel(foreign, tmp_path):
    result = read_published(save(tmp_path / "a.pt", {"model": nn.DataParallel(make_model(foreign))}))
    assert "model.0.conv.weight" in result.state and result.nc == 2


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {f"module.{k}": v for k, v in s.items()}]
)
def test_bare_state_dict(tmp_path, wrap):
    state = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).state_dict()
    result = read_published(save(tmp_path / "a.pt", wrap(state)))
    assert result.yaml is None and list(result.state) == list(state)
    assert all(torch.equal(result.state[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int8, torch.uint8, torch.bool]
)
def test_tensors_are_what_torch_reads(tmp_path, dtype):
    base = torch.arange(24).reshape(4, 6).to(dtype)
    content = {"whole": base, "part": base[1:3, ::2].t(), "empty": torch.empty(0, 3, dtype=dtype), "one": base[0, 0]}
    path = save(tmp_path / "a.pt", content)
    expected = torch.load(path, weights_only=True)
    for name, value in read_archive(path).items():
        assert value.dtype == dtype and torch.equal(value, expected[name]), name


class Runs:
    """Pickles as a call of `function(*args)`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def _touch(path):
    open(path, "w").close()


MALICIOUS = {
    "posix.system|nt.system|os.system": lambda p: Runs(__import__("os").system, f"touch {p}"),
    "builtins.exec|__builtin__.exec": lambda p: Runs(exec, f"open({str(p)!r}, 'w')"),
    "builtins.getattr|__builtin__.getattr": lambda p: Runs(getattr, "x", "upper"),
    "torch.serialization.load": lambda p: Runs(torch.load, str(p)),
    "_codecs.decode|codecs.decode": lambda p: Runs(codecs.decode, b"x", "utf8"),
    "subprocess.check_output|commands.check_output": lambda p: Runs(subprocess.check_output, ["touch", str(p)]),
    "pickle.loads|_pickle.loads": lambda p: Runs(pickle.loads, b"N."),
    "builtins.open|io.open|_io.open": lambda p: Runs(open, str(p), "w"),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_files_are_refused_and_nothing_runs(tmp_path, name, nested):
    trace = tmp_path / "trace"
    bad = MALICIOUS[name](trace)
    content = {"model": {"a": torch.zeros(1), "b": [bad]}} if nested else bad
    path = save(tmp_path / "bad.pt", content)
    with pytest.raises(UserError, match=name.replace(".", r"\.")) as caught:
        read_published(path)
    assert str(path) in str(caught.value) and "nothing in it was executed" in str(caught.value)
    assert not trace.exists()


def write_pickle(path, program, records=()):
    """A zip as torch.save makes it around a hand-written pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
        for name, data in records:
            archive.writestr(f"archive/{name}", data)
    return path


CALLED = b"\x80\x02cmodels.common\nConv\n)\x81}X\x05\x00\x00\x00shapeK\x01sb."  # an object and its state: fine
CRAFTED = {
    "calls what a call returned": b"\x80\x02cmodels.yolo\nModel\n)R)R.",
    "calls a text": b"\x80\x02X\x01\x00\x00\x00a)R.",
    "an extension code": b"\x80\x02\x82\x01.",
    "instance opcode": b"(ios\nsystem\n.",
    "state for a name": b"\x80\x02cmodels.yolo\nModel\n}X\x01\x00\x00\x00aK\x01sb.",
    "empty stack": b"\x80\x02R.",
    "no end": b"\x80\x02}",
    "unknown memo": b"\x80\x02h\x05.",
    "no pickle": b"hello",
    "an unhashable key": b"\x80\x02}]K\x01s.",
    "dotted name": b"\x80\x04\x8c\x0bmodels.yolo\x8c\x04\x2e\x2e\x2fx\x93)R\x8c\x02osc__main__\nx\n.",
}


def test_a_minimal_pickle_of_an_object_is_read(tmp_path):
    assert read_archive(write_pickle(tmp_path / "a.pt", CALLED)).state == {"shape": 1}


@pytest.mark.parametrize("what", CRAFTED)
def test_crafted_pickles_raise_one_error(tmp_path, what):
    path = write_pickle(tmp_path / "bad.pt", CRAFTED[what])
    with pytest.raises(UserError, match="bad.pt"):
        read_archive(path)


def storage_pickle(key, number, size, stride, offset=0):
    """A pickle of one float tensor over storage `key`."""

    def text(value):
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    def integer(value):
        return b"J" + value.to_bytes(4, "little", signed=True)

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + integer(number) + b"tQ"
    shape = b"(" + integer(size) + b"t" + b"(" + integer(stride) + b"t"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + integer(offset) + shape + b"\x89}tR."


def test_a_tensor_stays_within_its_data(tmp_path):
    record = [("data/0", np.arange(4, dtype=np.float32).tobytes())]
    good = write_pickle(tmp_path / "good.pt", storage_pickle("0", 4, 2, 2, 1), record)
    assert read_archive(good).tolist() == [1.0, 3.0]
    wrong = {
        "number": ("0", 5, 1, 1),
        "size": ("0", 4, 5, 0),
        "end": ("0", 4, 4, 2),
        "offset": ("0", 4, 2, 1, 3),
        "negative": ("0", 4, -2, 1),
        "record": ("../x", 4, 1, 1),
    }
    for name, arguments in wrong.items():
        bad = write_pickle(tmp_path / f"{name}.pt", storage_pickle(*arguments), record)
        with pytest.raises(UserError, match=f"{name}.pt"):
            read_archive(bad)


def test_recursive_modules_are_refused(tmp_path):
    memo = b"\x80\x02cmodels.yolo\nModel\n)\x81q\x01}X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00ah\x01ssb."
    with pytest.raises(UserError, match="without end"):
        read_published(write_pickle(tmp_path / "a.pt", memo))


def test_files_without_weights(foreign, tmp_path):
    content = save(tmp_path / "whole.pt", {"model": make_model(foreign)}).read_bytes()
    (tmp_path / "truncated.pt").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.pt").write_text("not weights")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "folder.pt").mkdir()
    save(tmp_path / "list.pt", [1, 2])
    save(tmp_path / "none.pt", {"epoch": 3})
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a": 1}))
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    reasons = {
        "missing": "no such file",
        "truncated": "truncated",
        "text": "not a weights file",
        "empty": "empty",
        "folder": "a folder",
        "list": "holds a list",
        "none": "no tensors",
        "plain": "not a weights file",
        "zip": "data.pkl",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=f"{name}.pt.*{reason}"):
            read_published(tmp_path / f"{name}.pt")


def test_truncated_and_damaged_files_raise_one_error_or_are_read(foreign, tmp_path):
    content = save(tmp_path / "whole.pt", {"model": make_model(foreign)}).read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.pt"
    for _ in range(150):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 3):
            damaged[position] ^= int(random.integers(1, 256))
        path.write_bytes(damaged if random.random() < 0.7 else content[: random.integers(len(content))])
        try:
            read_published(path)
        except UserError as error:
            assert "damaged.pt" in str(error)


def test_odd_names_and_strides_cost_nothing(foreign, tmp_path):
    model = make_model(foreign)
    model.names, model.stride = [["cat"], {}], torch.zeros(5000)
    result = read_published(save(tmp_path / "odd.pt", {"model": model}))
    assert result.names is None and result.stride is None
    inner = model.model
    for _ in range(3):
        inner = nn.ModuleDict({"n" * 500: inner})
    model.model = inner
    with pytest.raises(UserError, match="nested without end"):
        read_published(save(tmp_path / "long.pt", {"model": model}))
    result = read_published(save(tmp_path / "state.pt", {"a": torch.ones(1), 3: torch.ones(1)}))
    assert list(result.state) == ["a"]
