"""ExecuTorch programs: the numbers of torch, and damaged files. Export and run need executorch."""

import sys

import numpy as np
import pytest
import torch

from graftdet.models import load_model
from graftdet.models.backends import BACKENDS, ExportError, ExportOptions
from graftdet.models.backends.executorch import _DIGEST, check_program
from graftdet.models.backends.receipt.verify import noise_images
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError
from graftdet.utils.untrusted.embedded_digest import fill_embedded_digest

BACKEND = BACKENDS["executorch"]
PROGRAM = b'program {"sha256": "' + b"0" * 64 + b'"} weights'


@pytest.fixture(scope="module")
def trained(tiny_weights):
    return build_from_weights(load_weights(tiny_weights)).eval()


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    pytest.importorskip("executorch")
    path = tmp_path_factory.mktemp("executorch") / "ä b.pte"
    return BACKEND.export(trained, path, ExportOptions((64, 96), batch_size=2, output="split"))


def test_the_same_numbers_as_torch(trained, exported):
    loaded = load_model(exported)
    assert (loaded.names, loaded.stride, loaded.fixed_size, loaded.fixed_batch) == (trained.names, 16, (64, 96), 2)
    images = noise_images(3, (64, 96))
    with torch.no_grad():
        expected = [part.numpy() for part in trained(torch.from_numpy(images))]
    for found, wanted in zip(loaded.forward(images), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-2, rtol=1e-3)
    with pytest.raises(UserError, match="ExecuTorch fails on an input of 1x3x32x32"):
        loaded._run(np.zeros((1, 3, 32, 32), np.float32))


def test_damaged_files_are_one_line(exported, tmp_path):
    data, path = exported.read_bytes(), tmp_path / "a.pte"
    for length in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"^[^\n]*a.pte: (was not exported by this project|is damaged)[^\n]*$"):
            load_model(path)
    for position in range(0, len(data), len(data) // 20):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(UserError, match="is damaged"):
            load_model(path)
    path.write_bytes(PROGRAM.replace(b"0" * 64, fill_embedded_digest(PROGRAM, _DIGEST)[20:84]))
    with pytest.raises(UserError, match="a.pte: is not a program that ExecuTorch can run"):
        load_model(path)


def test_a_model_that_cannot_be_exported(trained, exported, tmp_path, monkeypatch):
    def depends_on_values(self, images):
        return images[images > images.mean()].sum() if images.sum() > 0 else images

    monkeypatch.setattr(type(trained), "head_inputs", depends_on_values)
    with pytest.raises(ExportError, match="a.pte: the model cannot be exported: .+"):
        BACKEND.export(trained, tmp_path / "a.pte", ExportOptions((64, 64)))
    assert list(tmp_path.iterdir()) == []


def test_programs_of_others_and_changed_ones_are_refused(tmp_path):
    complete = fill_embedded_digest(PROGRAM, _DIGEST)
    check_program(tmp_path, complete)
    for other in (b"", PROGRAM.replace(b"sha256", b"sha512"), complete + complete):
        with pytest.raises(UserError, match="was not exported by this project"):
            check_program(tmp_path, other)
    with pytest.raises(UserError, match="is damaged"):
        check_program(tmp_path, complete + b" ")


def test_without_the_package(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "executorch", None)
    for name in [name for name in sys.modules if name.startswith("executorch.")]:
        monkeypatch.delitem(sys.modules, name)
    path = tmp_path / "a.pte"
    with pytest.raises(UserError, match="a.pte: no such file"):
        load_model(path)
    path.write_bytes(fill_embedded_digest(PROGRAM, _DIGEST))
    for call in (lambda: load_model(path), lambda: BACKEND.export(trained, path, ExportOptions((64, 64)))):
        with pytest.raises(UserError, match="need executorch .*install it with 'pip install executorch'"):
            call()
    with pytest.raises(UserError, match="--dynamic: executorch files have a fixed size"):
        BACKEND.export(trained, path, ExportOptions((64, 64), dynamic=True))
