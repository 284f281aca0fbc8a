"""TorchScript files: the numbers of torch, without this project's code, and malformed files."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from graftdet.models import load_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.receipt.verify import noise_images
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

BACKEND = BACKENDS["torchscript"]


@pytest.fixture(scope="module")
def trained(tiny_weights):
    return build_from_weights(load_weights(tiny_weights)).eval()


@pytest.mark.parametrize("output", BACKEND.outputs)
@pytest.mark.parametrize("dynamic", [False, True])
def test_the_same_numbers_as_torch(trained, output, dynamic, tmp_path):
    path = BACKEND.export(
        trained, tmp_path / "ä b.torchscript", ExportOptions((64, 96), dynamic=dynamic, output=output)
    )
    loaded = load_model(path)
    assert (loaded.names, loaded.stride, loaded.needs_nms) == (trained.names, 16, True)
    assert (loaded.fixed_size, loaded.fixed_batch) == ((None, None) if dynamic else ((64, 96), 1))
    for size in [(64, 96)] + [(32, 128)] * dynamic:
        images = noise_images(3, size)
        with torch.no_grad():
            expected = [part.numpy() for part in trained(torch.from_numpy(images))]
        for found, wanted in zip(loaded.forward(images), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-2, rtol=1e-3)
    assert [p.name for p in tmp_path.iterdir()] == ["ä b.torchscript"]


def test_a_file_runs_without_this_project(trained, tmp_path):
    path = BACKEND.export(trained, tmp_path / "a.torchscript", ExportOptions((64, 64)))
    code = "import sys, torch; print(tuple(torch.jit.load(sys.argv[1])(torch.zeros(1, 3, 64, 64)).shape))"
    done = subprocess.run([sys.executable, "-c", code, path], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 240, 8)", done.stderr


def test_files_that_cannot_be_run(trained, tmp_path):
    path = BACKEND.export(trained, tmp_path / "a.torchscript", ExportOptions((64, 64)))
    (tmp_path / "truncated.torchscript").write_bytes(path.read_bytes()[:5000])
    (tmp_path / "text.torchscript").write_text("no archive")
    data = path.read_bytes()
    (tmp_path / "damaged.torchscript").write_bytes(data[:9000] + bytes([data[9000] ^ 1]) + data[9001:])
    script = torch.jit.trace(torch.nn.Conv2d(3, 8, 1), torch.zeros(1, 3, 8, 8))
    torch.jit.save(script, tmp_path / "foreign.torchscript")
    broken = {"graftdet.json": json.dumps({"input": [1, 3], "outputs": [], "metadata": {}})}
    torch.jit.save(script, tmp_path / "broken.torchscript", _extra_files=broken)
    messages = {
        "missing": "no such file",
        "truncated": "is not a valid TorchScript file",
        "text": "is not a valid TorchScript file",
        "damaged": "is not a valid TorchScript file, or is damaged",
        "foreign": "was not exported by this project",
        "broken": "expected an input",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=f"{name}.torchscript: {message}"):
            load_model(tmp_path / f"{name}.torchscript")
    with pytest.raises(UserError, match="--output nms: torchscript has raw, split, decoded"):
        BACKEND.export(trained, tmp_path / "b.torchscript", ExportOptions((64, 64), output="nms"))
