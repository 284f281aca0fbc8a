"""A window as large as its map is reported before a converter fails on it."""

import pytest
import torch

from graftdet.models import BLOCKS, build_model, load_plugins
from graftdet.models.conformance.case_search import find_cases
from graftdet.models.graph.export_check import _EmptyTensors, check_export_size
from graftdet.models.graph.modules import find_block
from graftdet.utils.errors import UserError
from tests.models.graph.test_plugins import write

pytestmark = pytest.mark.usefixtures("restore_registry")
PLUGIN = """import torch
from torch import nn


class ShiftedWindows(nn.Module):
    def forward(self, x):
        mask = torch.zeros(1, 1, *x.shape[2:])
        mask[:, :, :-8] = 1
        mask[:, :, -8:] = 2
        return x * mask


class Windows(nn.Module):
    def forward(self, x):
        b, c, h, w = x.shape
        inner = x[:, :, : h // 8 * 8]
        return x + inner.reshape(b, c, -1).sum(2)[..., None, None]
"""


@pytest.mark.parametrize(("module", "line"), [("ShiftedWindows", 8), ("Windows", 17)])
def test_a_window_as_large_as_its_map_is_reported_with_row_and_line(tmp_path, module, line):
    load_plugins([write(tmp_path / "mine.py", PLUGIN)])
    rows = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, module, []]]
    model = build_model({"nc": 1, "anchors": 3, "backbone": rows, "head": [[[2], 1, "Detect", ["nc", "anchors"]]]})
    check_export_size(model.train(), (128, 128))
    assert model.training
    side = 32 if module == "ShiftedWindows" else 16
    with pytest.raises(UserError) as caught:
        check_export_size(model, (side, side))
    text = str(caught.value)
    assert f"row 2 (backbone row 2) {module}: fails on input 1x8x{side // 4}x{side // 4}: uses an empty part" in text
    assert text.endswith(f"(mine.py:{line})")


def test_no_block_of_the_project_uses_empty_tensors():
    for name in BLOCKS:
        block, options, _ = find_block(name)
        try:
            case = find_cases(name, block, options, None, {}, None)[0]
        except UserError:  # needs arguments that cannot be guessed
            continue
        with torch.no_grad(), _EmptyTensors():
            case.build().eval()(case.maps(1, 32, 32))
