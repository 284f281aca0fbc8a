"""OpenVINO files: the same numbers as torch, their metadata, and invalid files."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graftdet.models import load_model
from graftdet.models.backends import BACKENDS, ExportOptions, backend_for, exported_model
from graftdet.models.backends.openvino import _core, import_openvino
from graftdet.models.backends.receipt.verify import noise_images, relative_difference, verify
from graftdet.utils.errors import UserError

try:
    openvino = import_openvino()
except ImportError:
    pytest.skip("openvino is not installed", allow_module_level=True)
BACKEND = BACKENDS["openvino"]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def exported(export_both):
    return export_both(BACKEND)


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_same_numbers_as_torch(model, exported, dynamic):
    options, path = exported[dynamic]
    loaded = BACKEND.load(path)
    for batch, size in [(1, (64, 96)), (3, (64, 96)), *([(1, (32, 32)), (2, (128, 64))] if dynamic else [])]:
        images = noise_images(batch, size, seed=batch)
        with torch.no_grad():
            expected = model.head.decode_rows(model.raw_outputs(torch.from_numpy(images))).numpy()
            boxes, scores = (output.numpy() for output in model(torch.from_numpy(images)))
        first = loaded.predictions(images)
        loaded.predictions(1 - images)
        assert relative_difference(first, expected) < 1e-4  # and a later call does not write into what was given
        outputs = loaded(images)
        np.testing.assert_allclose(outputs[0], boxes, rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(outputs[1], scores, atol=1e-4)
        for row, (some_boxes, some_scores) in enumerate(loaded.candidates(images, 0.5)):
            likely = scores[row].max(1) > 0.5
            assert 0 < likely.sum() <= len(some_scores) < len(scores[row])
            np.testing.assert_allclose(some_boxes[some_scores.max(1) > 0.5], boxes[row][likely], rtol=1e-3, atol=1e-2)
    assert verify(model, loaded, path, options) < 1e-4


def test_attributes_are_read_back(exported):
    fixed, free = (BACKEND.load(exported[dynamic][1]) for dynamic in (False, True))
    assert (fixed.fixed_size, fixed.fixed_batch, fixed.stride, fixed.nc) == ((64, 96), 1, 16, 3)
    assert (free.fixed_size, free.fixed_batch, free.train_size) == (None, None, 96)
    assert fixed.names == ["circle", "square", "triangle"] and fixed.names_known and fixed.needs_nms
    folder = exported[False][1].parent
    assert sorted(p.name for p in folder.iterdir()) == [
        "tiny False.bin",
        "tiny False.xml",
        "tiny True.bin",
        "tiny True.xml",
    ]
    network = _core(openvino).read_model(exported[False][1])
    assert [p.get_any_name() for p in (*network.inputs, *network.outputs)] == ["images", "output0"]
    assert all(
        op.get_element_type() != openvino.Type.f16 for op in network.get_ops() if op.get_type_name() == "Constant"
    )
    assert backend_for("a/B.XML") is BACKEND


def test_only_the_first_shape_gets_a_graph_of_its_own(exported):
    loaded = BACKEND.load(exported[True][1])
    shapes = [(1, 3, 64, 96), (1, 3, 32, 32), (2, 3, 64, 96), (1, 3, 64, 96), (1, 3, 48, 32)]
    first = [loaded.predictions(np.full(shape, 0.3, np.float32)) for shape in shapes]
    assert list(loaded._requests) == [shapes[0], "any"]
    assert (first[0] == first[3]).all() and relative_difference(first[2][1:], first[0]) < 1e-5


def test_bfloat16_is_only_computed_when_asked_for(exported):
    images = noise_images(1, (64, 96))
    full, half = (load_model(exported[False][1], half=asked) for asked in (False, True))
    assert not full.half and full.backend == "OpenVINO"
    if not half.half:
        pytest.skip("this CPU has no bfloat16")
    difference = relative_difference(half.predictions(images), full.predictions(images))
    assert difference > 0 and half.backend == "OpenVINO in bfloat16"
    assert np.abs(half.predictions(images)[..., 4:] - full.predictions(images)[..., 4:]).max() < 0.1


def test_it_reads_onnx_files_too(model, exported, tmp_path):
    path = BACKENDS["onnx"].export(model, tmp_path / "m.onnx", exported[True][0])
    images = noise_images(2, (64, 96))
    by_openvino = load_model(path, backend="openvino")
    assert by_openvino.backend == "OpenVINO" and by_openvino.names == ["circle", "square", "triangle"]
    assert (
        relative_difference(by_openvino.predictions(images), load_model(path, backend="auto").predictions(images))
        < 1e-4
    )
    with pytest.raises(UserError, match="--backend onnx: cannot run .*True.xml"):
        load_model(exported[True][1], backend="onnx")


def test_files_that_cannot_be_run(exported, tmp_path):
    path = exported[False][1]
    graph, weights = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    table = {
        "missing": (None, None, "missing.xml: no such file"),
        "bare": (graph, None, "bare.bin: no such file; it contains the weights of bare.xml"),
        "truncated": (graph[: len(graph) // 2], weights, "truncated.xml: is not a file that OpenVINO can run"),
        "half": (graph, weights[: len(weights) // 2], "half.xml: is not a file that OpenVINO can run.*bin"),
        "text": (b"hello", weights, "text.xml: is not a file that OpenVINO can run"),
        "empty": (b"", b"", "empty.xml: is not a file that OpenVINO can run"),
    }
    for name, (first, second, message) in table.items():
        for suffix, data in ((".xml", first), (".bin", second)):
            if data is not None:
                (tmp_path / f"{name}{suffix}").write_bytes(data)
        with pytest.raises(UserError, match=message):
            load_model(tmp_path / f"{name}.xml")
    for data in (b"", b"hello"):
        (tmp_path / "a.onnx").write_bytes(data)
        with pytest.raises(UserError, match="a.onnx"):
            load_model(tmp_path / "a.onnx", backend="openvino")
    with pytest.raises(UserError, match="--device 0.*CPU only"):
        load_model(path, device="0")


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_changes_after_the_export_are_reported(exported, tmp_path, caplog, suffix):
    source, path = exported[False][1], tmp_path / "a.xml"
    for one in (".xml", ".bin"):
        path.with_suffix(one).write_bytes(source.with_suffix(one).read_bytes())
    BACKEND.load(path)
    assert not caplog.records
    changed = path.with_suffix(suffix)
    if suffix == ".xml":
        changed.write_text(changed.read_text().replace("output0", "output1"))
    else:
        changed.write_bytes(bytes([changed.read_bytes()[0] ^ 1]) + changed.read_bytes()[1:])
    BACKEND.load(path)
    assert [one.getMessage().split(": ", 1)[1][:24] for one in caplog.records] == ["changed after its export"]


def test_an_input_of_another_size_is_an_error(exported):
    with pytest.raises(UserError, match="OpenVINO fails on an input of 1x3x128x128"):
        BACKEND.load(exported[False][1]).predictions(np.zeros((1, 3, 128, 128), np.float32))


def test_nothing_is_left_where_the_model_cannot_be_exported(model, tmp_path):
    with pytest.raises(UserError, match="multiples of 16"):
        BACKEND.export(model, tmp_path / "a.xml", ExportOptions(size=(64, 90)))
    assert list(tmp_path.iterdir()) == []


def test_number_of_threads(exported, monkeypatch):
    """As many as torch would take, not as many as the machine has cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(exported_model.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(exported_model.os, "sched_getaffinity", lambda _: {0, 5}, raising=False)
    assert exported_model.thread_limit() == 2
    monkeypatch.setattr(exported_model.os, "sched_getaffinity", lambda _: set(range(8)))
    assert exported_model.thread_limit() == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert exported_model.thread_limit() == 1
    loaded = BACKEND.load(exported[False][1])
    compiled = next(iter(loaded._requests.values())).get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="processes end without a signal here")
def test_a_signal_is_harmless_after_models_are_freed(exported):
    """OpenVINO sets the main thread a stack for signals, and frees it with its cores."""
    code = (
        "import gc, os, signal, sys, time; from graftdet.models.backends import BACKENDS; import numpy as np\n"
        "signal.signal(signal.SIGCHLD, lambda *_: None)\n"
        "models = [BACKENDS['openvino'].load(sys.argv[1], half=half) for half in (False, True)]\n"
        "for model in models: model(np.zeros((1, 3, 64, 96), np.float32))\n"
        "del model; models.pop(0); gc.collect(); models.pop(); gc.collect()\n"
        "os.kill(os.getpid(), signal.SIGCHLD); time.sleep(0.01)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(exported[False][1])], cwd=ROOT).returncode == 0


def test_a_missing_package_is_reported(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match="pip install openvino"):
        BACKEND.load(exported[False][1])


def test_running_a_file_imports_no_torch(exported):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np; from graftdet.models.backends.loading import load_model\n"
        "print(len(load_model(sys.argv[1]).predict(np.zeros((50, 60, 3), np.uint8), conf=0)[0]))"
    )
    command = [sys.executable, "-c", code, str(exported[True][1])]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and int(result.stdout) > 0, result.stderr


LOOKUPS = """
import socket, sys
def refuse(name):
    def call(*args, **kwargs):
        with open(LOG, "a") as file:
            file.write(f"{name} {args}\\n")
        raise OSError("no network here")
    return call
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, refuse(name))
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse(name))
"""
ENTRY_POINTS = {
    "export": "import export; export.main(['--weights', PT, '--out', 'there.xml', '--include', 'openvino'])",
    "detect": "import detect; detect.main(['--weights', XML, '--source', IMAGE, '--device', 'cpu'])",
    "detect .pt": (
        "import detect; detect.main(['--weights', PT, '--source', IMAGE, '--device', 'cpu', '--backend', 'openvino'])"
    ),
    "val": "import val; val.main(['--weights', XML, '--data', DATA, '--workers', '0'])",
    "load_model": "from graftdet.models import load_model; load_model(XML)",
}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_no_telemetry(entry_point, workspace, tiny_weights, tmp_path):
    """No host is looked up, in any thread or at exit, and no id is stored in the home folder."""
    pytest.importorskip("openvino_telemetry")
    home, log = tmp_path / "home", tmp_path / "lookups"
    home.mkdir()
    xml = BACKEND.export(load_model(tiny_weights).model, tmp_path / "tiny.xml", ExportOptions((64, 64)))
    weights = shutil.copy(tiny_weights, tmp_path / "tiny.pt")
    image = next((workspace / "shapes" / "images" / "val").iterdir())
    known = {"LOG": log, "PT": weights, "XML": xml, "IMAGE": image, "DATA": workspace / "data.yaml"}
    head = (
        "".join(f"{key} = {str(value)!r}\n" for key, value in known.items())
        + f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    )
    tail = "\nassert 'openvino' in sys.modules\nimport time; time.sleep(0.5)"
    ci = ("CI", "TF_BUILD", "JENKINS_URL")  # which would turn telemetry off
    env = {key: value for key, value in os.environ.items() if key not in ci} | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    env["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", head + LOOKUPS + ENTRY_POINTS[entry_point] + tail],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not log.exists(), log.read_text()
    assert not [path for path in home.rglob("*") if path.is_file()] and not (home / "intel").exists()


def test_openvino_is_imported_by_one_function():
    """Any other import than by `import_without_telemetry` starts its telemetry."""
    importing = re.compile(
        r"^\s*(import|from) openvino\b|import_module\(.openvino|importorskip\(.openvino.\)", re.MULTILINE
    )
    assert not [
        path
        for path in ROOT.rglob("*.py")
        if ".venv" not in path.parts and importing.search(path.read_text(encoding="utf-8"))
    ]


def test_telemetry_of_other_programs_is_not_changed(monkeypatch):
    other = object()
    monkeypatch.setitem(sys.modules, "openvino_telemetry", other)
    assert import_openvino() is openvino and sys.modules["openvino_telemetry"] is other
