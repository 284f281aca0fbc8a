"""`models import`: a file of this project that holds the same model, and a report of what was found."""

import pytest
import torch

from graftdet.models.__main__ import main
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_imported_file_is_loaded_as_its_source(tiny_weights, tmp_path, capsys, suffix):
    out = tmp_path / f"out{suffix}"
    main(["import", str(tiny_weights), str(out), "--names", "x", "y", "z"])
    text = capsys.readouterr().out
    assert "classes: 3 (x, y, z)" in text and "license: yours" in text and f"written: {out}" in text
    source, written = load_weights(tiny_weights), load_weights(out)
    assert written.names == ["x", "y", "z"] and written.nc == 3 and written.size == source.size
    assert all(torch.equal(tensor, source.state[name]) for name, tensor in written.state.items())
    assert len(written.state) == len(source.state) and not written.merged_batch_norms
    assert f"tensors: {len(source.state)} of {len(source.state)}" in text


def test_wrong_output(tiny_weights, tmp_path):
    with pytest.raises(UserError, match=r"out\.onnx: expected a file name that ends in \.pt or \.safetensors"):
        main(["import", str(tiny_weights), str(tmp_path / "out.onnx")])
    with pytest.raises(UserError, match="2 names for 3 classes"):
        main(["import", str(tiny_weights), str(tmp_path / "out.pt"), "--names", "x", "y"])
