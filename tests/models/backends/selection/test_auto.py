"""The fastest way to run a .pt: exported once, timed once, remembered, with the same boxes as torch."""

import errno
import json
import os
import re
import shutil
import sys

import numpy as np
import pytest

from graftdet.models import load_model
from graftdet.models.backends import ExportError
from graftdet.models.backends.selection import auto, cached_export, export_cache, remembered, ways
from graftdet.models.backends.selection.agreement import Agreement
from graftdet.models.backends.selection.ways import Workload
from graftdet.models.backends.tracing import onnx_tracing
from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import read_image

BACKEND_NAMES = list(ways.installed_backends())


@pytest.fixture
def weights(tiny_weights, tmp_path, monkeypatch):
    """A copy in its own folder; the user's cache folder is a temporary one."""
    for module in (export_cache, remembered):
        monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    (tmp_path / "run").mkdir()
    return shutil.copy(tiny_weights, tmp_path / "run" / "best.pt")


def exports(folder):
    return sorted(path.name for path in folder.rglob("best-*.onnx"))


def changed(weights, factor=0.9):
    content = load_checkpoint(weights)
    for name, value in content["model"].items():
        if value.is_floating_point():
            content["model"][name] = value * factor
    save_checkpoint(weights, content)


@pytest.mark.parametrize("name", BACKEND_NAMES)
def test_the_same_boxes_as_torch(name, weights, workspace):
    """Within a pixel and 0.01 in score, for images of any shape."""
    images = [np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)]
    images += [read_image(path) for path in sorted((workspace / "shapes" / "images" / "val").iterdir())[:3]]
    by_torch, by_export = load_model(weights), load_model(weights, backend=name)
    assert (by_export.names, by_export.stride, by_export.train_size) == (
        by_torch.names,
        by_torch.stride,
        by_torch.train_size,
    )
    assert by_torch.backend == "torch" != by_export.backend
    for size in (None, 96, (48, 112)):
        for how in ({}, {"nms": "none", "max_det": 30_000}):
            for a, b in zip(
                *(model.predict(images, imgsz=size, conf=0.3, **how) for model in (by_torch, by_export)), strict=True
            ):
                assert len(a) == len(b) > 3 and (a.labels == b.labels).all()
                assert np.abs(a.boxes - b.boxes).max() < 1 and np.abs(a.scores - b.scores).max() < 0.01


def test_the_export_is_cached_until_anything_changes(weights, tmp_path, capsys, monkeypatch):
    folder = weights.parent / "exported"
    load_model(weights, backend="auto")
    (first,) = exports(tmp_path)
    assert "exported to" in capsys.readouterr().out and (folder / first).with_suffix(".json").is_file()
    with monkeypatch.context() as context:
        context.setattr(cached_export.CachedExport, "_make", lambda *_: pytest.fail("made again"))
        load_model(weights, backend="auto")

    before = load_model(weights, backend=BACKEND_NAMES[0])(np.full((1, 3, 64, 64), 99, np.uint8))[1]
    changed(weights)
    after = load_model(weights, backend=BACKEND_NAMES[0])(np.full((1, 3, 64, 64), 99, np.uint8))[1]
    (second,) = exports(tmp_path)  # the export of the replaced weights is removed
    assert second != first and not np.allclose(before, after)

    notes = json.loads((folder / second).with_suffix(".json").read_text())
    (folder / second).with_suffix(".json").write_text(json.dumps({**notes, "runtimes": "others"}))
    written = (folder / second).stat().st_mtime_ns
    load_model(weights, backend="auto")  # is verified again, not exported again
    assert json.loads((folder / second).with_suffix(".json").read_text())["runtimes"] == notes["runtimes"]
    assert (folder / second).stat().st_mtime_ns == written


def test_class_names_are_checked_before_the_export(weights, tmp_path):
    def refuse(names):
        raise UserError(f"not one of {names}")

    with pytest.raises(UserError, match="not one of .*circle"):
        auto.load_fastest(weights, workload=Workload(check_names=refuse))
    assert not exports(tmp_path)


def test_a_damaged_export_is_made_again(weights, tmp_path):
    before = load_model(weights, backend=BACKEND_NAMES[0])(np.full((1, 3, 64, 64), 99, np.uint8))[1]
    path = weights.parent / "exported" / exports(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:1000])
    after = load_model(weights, backend=BACKEND_NAMES[0])(np.full((1, 3, 64, 64), 99, np.uint8))[1]
    assert np.array_equal(before, after)


def test_an_export_with_a_flipped_bit_is_made_again(weights, tmp_path):
    before = load_model(weights, backend=BACKEND_NAMES[0])(np.full((1, 3, 64, 64), 99, np.uint8))[1]
    path = weights.parent / "exported" / exports(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(content)
    after = load_model(weights, backend=BACKEND_NAMES[0])(np.full((1, 3, 64, 64), 99, np.uint8))[1]
    assert np.array_equal(before, after) and path.read_bytes() != content


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError()])
def test_a_full_disk_is_not_remembered(error, weights, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(onnx_tracing, "trace_to_onnx", lambda *_, **__: (_ for _ in ()).throw(error))
        assert load_model(weights, backend="auto").backend == "torch"
    assert not exports(tmp_path)
    load_model(weights, backend="auto")
    assert len(exports(tmp_path)) == 1


def test_a_failed_export_is_tried_again_after_a_day(weights, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(onnx_tracing, "trace_to_onnx", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no")))
        load_model(weights, backend="auto")
    load_model(weights, backend="auto")
    assert not exports(tmp_path)
    (notes,) = (weights.parent / "exported").glob("*.json")
    os.utime(notes, (0, 0))
    load_model(weights, backend="auto")
    assert len(exports(tmp_path)) == 1


def timed(monkeypatch, milliseconds, agrees=True):
    """Replace times and agreement; returns the list of ways that were compared with float32."""
    compared = []

    def agreement(reference, other, images, size):
        assert not reference.half and other.half and len(images)
        compared.append(other.backend)
        return Agreement(20, 0.999 if agrees else 0.5, 0.001)

    monkeypatch.setattr(auto, "time_ways", lambda calls, seconds: {w: milliseconds.get(str(w), 99) for w in calls})
    monkeypatch.setattr(auto, "agreement", agreement)
    monkeypatch.setattr(auto, "load_since", lambda before: 0.0)
    monkeypatch.setattr(ways, "has_bfloat16", lambda: True)
    return compared


def test_a_choice_is_remembered_until_its_file_is_damaged(weights, tmp_path, monkeypatch, capsys):
    timed(monkeypatch, {"torch": 1.0})
    assert load_model(weights, backend="auto").backend == "torch"
    assert "timing torch" in capsys.readouterr().out
    timed(monkeypatch, {"onnx": 1.0})
    assert load_model(weights, backend="auto").backend == "torch"
    assert "torch 1.0" in capsys.readouterr().out
    assert load_model(weights, backend="auto", imgsz=96).backend == "onnxruntime"  # another size: timed again

    (path,) = (tmp_path / "cache" / "choices").iterdir()
    huge = re.sub(rb'("torch": )[0-9.]+', rb"\g<1>" + b"9" * 400, path.read_bytes())
    assert huge != path.read_bytes()
    for damage in (path.read_bytes()[:40], b"[]", b'{"choices": {"as trained, batch 1": {"way": "other"}}}', huge):
        path.write_bytes(damage)
        assert load_model(weights, backend="auto").backend == "onnxruntime"
        assert json.loads(path.read_text())["choices"]["as trained, batch 1"]["way"] == "onnx"


def test_ways_timed_under_load_are_timed_again_without(weights, monkeypatch, capsys):
    loads = {"timing": 0.5, "now": 0.5}
    timed(monkeypatch, {"torch": 1.0})
    monkeypatch.setattr(auto, "load_since", lambda before: loads["timing"])
    monkeypatch.setattr(auto, "load_since_start", lambda: loads["now"])
    assert load_model(weights, backend="auto").backend == "torch"
    assert "while other processes used 50% of the cores" in capsys.readouterr().out
    timed(monkeypatch, {"onnx": 1.0})
    assert load_model(weights, backend="auto").backend == "torch"  # there is still load
    loads |= {"timing": 0.0, "now": 0.0}
    assert load_model(weights, backend="auto").backend == "onnxruntime"
    timed(monkeypatch, {"torch": 1.0})
    assert load_model(weights, backend="auto").backend == "onnxruntime"


@pytest.mark.parametrize("agrees", [True, False])
def test_bfloat16_needs_the_boxes_of_float32(agrees, weights, monkeypatch, capsys):
    compared = timed(monkeypatch, {"torch in bfloat16": 1.0, "onnx": 4.0}, agrees)
    model = load_model(weights, backend="auto", images=[np.zeros((40, 60, 3), np.uint8)])
    assert model.half == agrees and compared == ["torch in bfloat16"]
    text = capsys.readouterr().out
    assert "on 1 of the given images" in text and ("agrees with float32" in text) == agrees


def test_the_flags_of_the_user_win(weights, monkeypatch):
    compared = timed(monkeypatch, {"torch in bfloat16": 1.0, "torch": 9.0, "onnx": 4.0}, agrees=False)
    backends = {
        name: load_model(weights, backend=name[0], precision=name[1]).backend
        for name in (("auto", "float32"), ("torch", None), ("torch", "half"), ("onnx", None), ("auto", "half"))
    }
    assert list(backends.values()) == ["onnxruntime", "torch", "torch in bfloat16", "onnxruntime", "torch in bfloat16"]
    assert not compared  # nothing to decide
    assert load_model(weights, backend="torch", precision="auto").backend == "torch"
    assert compared == ["torch in bfloat16"]
    with pytest.raises(UserError, match="--half and --precision float32 contradict"):
        load_model(weights, half=True, precision="float32")


def test_few_images_do_not_wait_for_an_export(weights, tmp_path, monkeypatch):
    """The second start exports, since a start without torch is faster; timing needs many images."""
    monkeypatch.setattr(auto, "time_ways", lambda *_: pytest.fail("timed"))
    few = Workload(num_images=1)
    assert auto.load_fastest(weights, workload=few).backend == "torch" and not exports(tmp_path)
    assert auto.load_fastest(weights, workload=few).backend == "onnxruntime" and exports(tmp_path)
    timed(monkeypatch, {"torch": 1.0})
    assert auto.load_fastest(weights, workload=Workload(num_images=1000)).backend == "torch"
    assert auto.load_fastest(weights, workload=few).backend == "torch"


def test_bfloat16_that_was_requested_once_is_no_choice_for_others(weights, monkeypatch):
    timed(monkeypatch, {"torch in bfloat16": 1.0})
    assert load_model(weights, backend="auto", precision="half").half
    assert not auto.load_fastest(weights, workload=Workload(num_images=1)).half


def test_without_a_choice_the_remaining_images_are_drawn(weights, tmp_path, monkeypatch, capsys):
    timed(monkeypatch, {})
    auto.load_fastest(weights, workload=Workload(images=lambda: [str(tmp_path / "missing.png")]))
    assert "on drawn images" in capsys.readouterr().out


def test_the_export_is_renewed_if_the_code_of_the_plugin_changes(weights, tmp_path):
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "blocks.py").write_text("A = 1")
    keys = {
        export_cache.cache_key(weights, ()),
        export_cache.cache_key(weights, [str(tmp_path / "plugin" / "blocks.py")]),
    }
    (tmp_path / "plugin" / "helper.py").write_text("B = 1")
    keys.add(export_cache.cache_key(weights, [str(tmp_path / "plugin" / "blocks.py")]))
    assert len(keys) == 3
    assert export_cache.cache_key(weights, ["yaml"]) == export_cache.cache_key(weights, ["yaml"]) not in keys


def test_the_export_is_renewed_if_the_code_of_any_model_changes(weights, tmp_path, monkeypatch):
    """Not that of the backends alone: a changed block must not run in an older export."""
    assert (export_cache._MODELS / "blocks" / "conv.py").is_file()
    (tmp_path / "models" / "blocks").mkdir(parents=True)
    for path in ("models/__init__.py", "models/blocks/conv.py"):
        (tmp_path / path).write_text("A = 1")
    monkeypatch.setattr(export_cache, "_MODELS", tmp_path / "models")
    before = export_cache.cache_key(weights)
    (tmp_path / "models" / "blocks" / "conv.py").write_text("A = 2")
    assert export_cache.cache_key(weights) != before


def test_the_export_is_renewed_if_the_code_of_a_namespace_package_changes(weights, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "blocks.py").write_text("A = 1")
    monkeypatch.syspath_prepend(tmp_path)
    before = export_cache.cache_key(weights, ["elsewhere"])
    (tmp_path / "elsewhere" / "blocks.py").write_text("A = 2")
    assert export_cache.cache_key(weights, ["elsewhere"]) != before


def test_a_folder_that_cannot_be_written(weights, tmp_path, monkeypatch):
    access = os.access
    monkeypatch.setattr(
        export_cache.os, "access", lambda path, mode: weights.parent not in (path, path.parent) and access(path, mode)
    )
    load_model(weights, backend="auto")
    assert len(exports(tmp_path / "cache")) == 1 and not (weights.parent / "exported").exists()


@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_read_only_weights_are_exported_elsewhere(read_only, weights, tmp_path):
    """Also for an administrator, who may write everywhere."""
    path = weights if read_only == "file" else weights.parent
    mode = path.stat().st_mode
    path.chmod(mode & ~0o222)
    try:
        load_model(weights, backend="auto")
        assert len(exports(tmp_path / "cache")) == 1 and not (weights.parent / "exported").exists()
    finally:
        path.chmod(mode)


def test_a_model_that_cannot_be_exported_is_run_by_torch(weights, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise RuntimeError("no such operation")

    monkeypatch.setattr(onnx_tracing, "trace_to_onnx", refuse)
    for _ in range(2):
        assert load_model(weights, backend="auto").backend == "torch"
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and "no such operation; continuing with torch" in message
        monkeypatch.setattr(cached_export.CachedExport, "_make", lambda *_: pytest.fail("tried again"))
    with pytest.raises(UserError, match="--backend onnx: .*no such operation"):
        load_model(weights, backend="onnx")


def test_without_a_faster_backend_torch_is_used(weights, monkeypatch, capsys):
    for package in ways.onnx_backends().values():
        monkeypatch.setitem(sys.modules, package, None)
    assert load_model(weights, backend="auto").backend == "torch"
    assert "onnxruntime or openvino, which are not installed; continuing with torch" in capsys.readouterr().err
    with pytest.raises(UserError, match="--backend onnx: needs onnxruntime; install it with 'pip install onnxruntime'"):
        load_model(weights, backend="onnx")


def test_a_backend_with_another_output_is_not_used(weights, monkeypatch):
    from graftdet.models.backends.receipt import verify

    def differ(model, loaded, path, options):
        if loaded.backend == "onnxruntime":
            raise ExportError(path, "differs from the model")

    monkeypatch.setattr(verify, "verify", differ)
    assert load_model(weights, backend="auto").backend != "onnxruntime"
    with pytest.raises(UserError, match="--backend onnx: the output of onnx differs from torch's"):
        load_model(weights, backend="onnx")


def test_malformed_weights_are_reported_as_without_export(weights, tmp_path):
    weights.write_bytes(weights.read_bytes()[:3000])
    with pytest.raises(UserError, match="best.pt.*truncated"):
        load_model(weights, backend="auto")
    with pytest.raises(UserError, match="missing.pt"):
        load_model(tmp_path / "missing.pt", backend="auto")
    assert not exports(tmp_path)
