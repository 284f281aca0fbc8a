"""`.safetensors`: the same model as from a checkpoint, in half the size; malformed files are reported in one line."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from graftdet.models import ModelSpec, build_model, load_model
from graftdet.models.weights.pretrained.card import WeightsCard
from graftdet.models.weights.pretrained.files import weights_files
from graftdet.models.weights.safetensors_file import MAX_HALF, read_header, read_safetensors, write_safetensors
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import WeightsFile, load_weights, save_weights
from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import read_image
from graftdet.utils.untrusted.header_digest import check_header_digest

LARGE = torch.rand(32, 33)


def test_a_checkpoint_and_its_safetensors_give_the_same_weights_file(tiny_weights, tmp_path):
    first = load_weights(tiny_weights)
    first.card = WeightsCard(license="Apache-2.0", trained_on="contours")
    second = load_weights(save_weights(tmp_path / "tiny näme.safetensors", first, half=False))
    for name in ("source", "yaml", "names", "nc", "size", "square_letterbox", "card"):
        assert getattr(first, name) == getattr(second, name), name
    assert first.state.keys() == second.state.keys()
    assert all(torch.equal(tensor, second.state[name]) for name, tensor in first.state.items())


def test_the_yaml_of_a_published_file_becomes_text(tiny_yaml, tmp_path):
    model = build_model("yolov5n.yaml", nc=2)
    content = {"nc": 2, "anchors": 3, "depth_multiple": 0.33, "width_multiple": 0.25}
    content["backbone"] = [row.written for row in model.spec.rows[:10]]
    content["head"] = [row.written for row in model.spec.rows[10:]]
    path = save_weights(tmp_path / "n.safetensors", WeightsFile("n.pt", "published", model.state_dict(), content, nc=2))
    again = build_from_weights(load_weights(path))
    assert [row.module for row in again.spec.rows] == [row.module for row in model.spec.rows]


@pytest.mark.parametrize(
    ("tensor", "dtype"),
    [
        (LARGE, torch.float16),
        (LARGE.double(), torch.float16),
        (LARGE.bfloat16(), torch.float16),
        (LARGE.t(), torch.float16),
        (LARGE * 2 * MAX_HALF, torch.float32),
        (torch.rand(2000), torch.float32),
        (torch.rand(3, 3, 2), torch.float32),
        (torch.arange(2000).view(2, -1), torch.int64),
        (torch.tensor(7), torch.int64),
        (torch.empty(0, 4), torch.float32),
    ],
    ids=lambda value: f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else str(value),
)
def test_which_tensors_are_stored_in_half_precision(tensor, dtype, tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"x": tensor, "view": tensor}, {})
    assert load_file(tmp_path / "a.safetensors")["x"].dtype == dtype
    (_, state) = read_safetensors(tmp_path / "a.safetensors")
    expected = tensor.to(dtype)
    assert torch.equal(state["x"], expected.float() if expected.is_floating_point() else expected)
    assert state["x"].dtype == (torch.float32 if dtype.is_floating_point else dtype)


def test_equal_content_gives_equal_bytes(tmp_path):
    metadata = {f"key {number}": "ä" * number for number in range(9)}
    contents = set()
    for number in range(4):
        write_safetensors(tmp_path / f"{number}.safetensors", {"x": LARGE, "n": torch.tensor(1)}, metadata)
        contents.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(contents) == 1
    header = read_header(tmp_path / "0.safetensors")
    assert header.metadata == metadata and header.shapes == {"x": (32, 33), "n": ()}


@pytest.mark.parametrize("text", ["Detect, [nc, anchors]", "AnchorFreeDetect, [nc]"])
def test_boxes_of_half_precision_weights_on_a_real_image(text, datasets_dir, tiny_yaml, tiny_weights, tmp_path):
    """At most half a pixel from those of float32 weights, and every buffer is the same."""
    if "Free" in text:
        torch.manual_seed(0)
        yaml = tiny_yaml.replace("Detect, [nc, anchors]", text)
        model = build_model(ModelSpec.from_text(yaml, "free.yaml"))
        content = {"yaml": yaml, "names": ["a", "b", "c"], "nc": 3, "model": model.state_dict(), "options": {"img": 64}}
        tiny_weights = save_checkpoint(tmp_path / "free.pt", content)
    original = load_weights(tiny_weights)
    path = save_weights(tmp_path / "half.safetensors", original)
    halved = load_weights(path)
    small = [name for name, tensor in original.state.items() if tensor.dim() < 2 or "anchors" in name]
    assert len(small) > 20 and all(torch.equal(original.state[name], halved.state[name]) for name in small)
    image = read_image(sorted((datasets_dir / "coco_tiny").rglob("*.jpg"))[0])
    first, second = (boxes_by_cell(model, image) for model in (load_model(tiny_weights), load_model(path)))
    assert first.shape == second.shape and first.shape[1] > 1000
    assert 0 < np.abs(first - second).max() < 0.5


def boxes_by_cell(model, image):
    """All boxes (N, 4) of one image in the order of the cells."""
    resized = np.ascontiguousarray(image[:320, :320].transpose(2, 0, 1)[None], dtype=np.float32) / 255
    return model(torch.from_numpy(resized))[0].numpy()


def broken(tmp_path):
    """(name, content of the file, what the message says)."""
    write_safetensors(tmp_path / "whole.safetensors", {"x": LARGE}, {"names": "[]"})
    whole = (tmp_path / "whole.safetensors").read_bytes()
    yield "empty", b"", "is empty"
    yield "truncated", whole[:-5], "is truncated or malformed"
    yield "short", whole[:30], "is truncated or malformed"
    yield "text", b"not a weights file at all", "is truncated or malformed"
    yield "pickle", b"\x80\x04\x95" + b"\0" * 40, "is truncated or malformed"
    yield "header", (2).to_bytes(8, "little") + b"[]", "is truncated or malformed"


def test_malformed_files_are_reported_in_one_line(tmp_path):
    for name, content, message in broken(tmp_path):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        for read in (read_header, load_weights):
            with pytest.raises(UserError, match=message) as error:
                read(path)
            assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value), name


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"names": "[1"}, "'names' is not valid JSON"),
        ({"names": '"abc"'}, "'names' is a str"),
        ({"nc": "[]"}, "'nc' is a list"),
        ({"card": '{"runs": [3]}'}, "its card is malformed"),
        ({"card": '{"license": 3}'}, "license is a int"),
        ({"yaml": "nc: 3\nnonsense: true"}, "nonsense"),
    ],
)
def test_malformed_metadata(metadata, message, tmp_path):
    save_file({"x": LARGE}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(UserError, match=message) as error:
        load_weights(tmp_path / "a.safetensors").read_spec()
    assert "a.safetensors" in str(error.value)


def test_missing_files_and_folders(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        load_weights(tmp_path / "folder.safetensors")
    with pytest.raises(UserError, match="no such file"):
        load_weights(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="expected a file name that ends in .safetensors or .pt"):
        save_weights(tmp_path / "a.onnx", WeightsFile("a", "checkpoint", {}))


def test_a_bare_state_dict_has_no_yaml(tmp_path):
    save_file({"conv.weight": LARGE.half()}, tmp_path / "BACKBONE.SAFETENSORS")
    weights = load_weights(tmp_path / "BACKBONE.SAFETENSORS")
    assert weights.source == "state dict" and weights.yaml is None and weights.card is None
    assert weights.state["conv.weight"].dtype == torch.float32
    with pytest.raises(UserError, match="without their YAML"):
        build_from_weights(weights)


def test_metadata_are_readable_by_other_programs(tiny_weights, tmp_path):
    weights = load_weights(tiny_weights)
    weights.card = WeightsCard(license="Apache-2.0")
    metadata = read_header(save_weights(tmp_path / "a.safetensors", weights)).metadata
    assert metadata["yaml"] == load_checkpoint(tiny_weights)["yaml"] and metadata["license"] == "Apache-2.0"
    assert json.loads(metadata["names"]) == weights.names and json.loads(metadata["card"])["license"] == "Apache-2.0"


def test_any_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "whole.safetensors"
    write_safetensors(path, {"x": torch.rand(4, 5), "n": torch.tensor(1)}, {"names": '["a"]', "yaml": "nc: 1"})
    whole = path.read_bytes()
    read_header(path)
    for position in range(len(whole)):
        for bit in (0, 3, 7) if position < 400 else (position % 8,):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(UserError, match=r"is (truncated or malformed|damaged)") as error:
                read_header(path)
            assert "\n" not in str(error.value)
    for start in (0, 100, len(whole) - 40):
        path.write_bytes(whole[:start] + b"\0" * 40 + whole[start + 40 :])
        with pytest.raises(UserError, match=r"is (truncated or malformed|damaged)"):
            read_safetensors(path)


def test_files_without_digest_are_read(tmp_path):
    save_file({"x": LARGE}, tmp_path / "other.safetensors", {"names": "[]"})
    assert read_header(tmp_path / "other.safetensors").metadata == {"names": "[]"}
    save_file({"x": LARGE}, tmp_path / "odd.safetensors", {"sha256": "\ud7ff"})
    with pytest.raises(UserError, match="is damaged: its digest is damaged; copy it again"):
        read_header(tmp_path / "odd.safetensors")


def test_the_weights_of_configs_have_a_digest():
    for path in weights_files():
        assert check_header_digest(path), path


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"a": torch.zeros(8, dtype=torch.float8_e4m3fn)}, {}, "holds tensors of type torch.float8_e4m3fn"),
        ({"a": torch.zeros(8, dtype=torch.complex64)}, {}, "holds tensors of type torch.complex64"),
        ({"a": torch.zeros([1] * 100)}, {}, "a tensor of more than 64 dimensions"),
        ({"a": torch.zeros(1)}, {"names": "[" * 100_000}, "its metadata 'names' is not valid JSON"),
    ],
)
def test_tensors_and_metadata_of_no_model(tmp_path, tensors, metadata, message):
    save_file(tensors, tmp_path / "a.safetensors", metadata)
    with pytest.raises(UserError, match=message):
        load_weights(tmp_path / "a.safetensors")


def test_the_number_of_tensors_is_limited(tmp_path, monkeypatch):
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "a.safetensors")
    monkeypatch.setattr("graftdet.models.weights.safetensors_file.MAX_TENSORS", 1)
    with pytest.raises(UserError, match="holds 2 tensors, more than the limit of 1"):
        load_weights(tmp_path / "a.safetensors")
