"""The command `blocks`: every registered module is described completely, and its example row builds."""

import json
import re
from pathlib import Path

import pytest
import yaml

from graftdet.models import BLOCKS, HEADS, build_model
from graftdet.models.__main__ import main
from graftdet.models.analysis.module_description import describe_all, describe_module
from graftdet.models.graph.plugins import load_plugins
from graftdet.utils.errors import UserError

ROOT = Path(__file__).parents[3]
MODULES = describe_all(plugins=False)
ANCHORS = [[10, 13, 16, 30, 33, 23]]


def model_with(example: list):
    """A small model in which a block's example row follows three rows of 64 channels at stride 32."""
    name = example[2]
    rows = [[-1, 1, "Conv", [64, 3, 32]], [-1, 1, "Conv", [64]], [-1, 1, "Conv", [64]]]
    options = BLOCKS.options(name)
    if options.takes_lists or options.joins_lists:
        rows.append([-1, 1, "MobileNetV1", [0.25]])
    rows.append(example)
    if "list of maps" in describe_module(name).details:
        rows.append([-1, 1, "Index", [0]])
    return build_model(
        {"nc": 2, "anchors": ANCHORS, "backbone": rows, "head": [[[-1], 1, "Detect", ["nc", "anchors"]]]}
    )


def model_with_head(example: list):
    """A small model with three levels that ends in a head's example row."""
    rows = [[-1, 1, "Conv", [64, 3, 8]], [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [64, 3, 2]]]
    sources = [0, 1, 2] * (2 if HEADS[example[2]].has_auxiliary_levels else 1)
    return build_model({"nc": 2, "anchors": 3 * ANCHORS, "backbone": rows, "head": [[sources, *example[1:]]]})


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_every_module_is_described(module):
    assert 10 <= len(module.purpose) <= 120 and module.purpose.endswith("."), module.purpose
    assert module.source, "no Source: section with paper and section"
    assert [a.name for a in module.arguments if not a.meaning] == [], "arguments without a meaning"
    assert module.example, "no Example: section with a row"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_every_documented_argument_exists(module):
    block = (BLOCKS if module.kind == "block" else HEADS)[module.name]
    documented = re.search(r"Args:\n(.*?)\n *\n", (block.__doc__ or "") + "\n\n", re.DOTALL)
    lines = documented[1].splitlines() if documented else []
    indent = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
    names = [line.strip().partition(":")[0] for line in lines if len(line) - len(line.lstrip()) == indent]
    assert [name for entry in names for name in entry.split(", ")] == [argument.name for argument in module.arguments]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_example_rows_build(module):
    for row in module.example.splitlines():
        example = yaml.safe_load(row)
        assert example[2] in (module.name, *module.aliases)
        model = model_with(example) if module.kind == "block" else model_with_head(example)
        assert any(layer.module == example[2] for layer in model.spec.rows)


def test_all_names_are_described():
    described = {name for module in MODULES for name in (module.name, *module.aliases)}
    assert described <= {*BLOCKS, *HEADS}
    assert {name for name in BLOCKS if BLOCKS[name].__module__.startswith("graftdet.models.")} <= described
    assert describe_module("CA") == describe_module("CoordAtt") and "CA" in describe_module("CA").aliases


def test_arguments_that_are_filled_in_are_marked():
    c3 = describe_module("C3")
    assert [argument.name for argument in c3.arguments if argument.filled_in] == ["c1", "n"]
    assert c3.signature == "C3(c2, shortcut=True, g=1, e=0.5)"
    assert describe_module("RepNCSPELAN4").signature == "RepNCSPELAN4(c2, c3, c4, n=1)"  # rule="stack"
    assert describe_module("SPP").signature == "SPP(c2, k=[5, 9, 13])"
    assert describe_module("Detect").signature.startswith("Detect(nc=80, anchors=")


def test_text(capsys):
    main(["blocks", "Conv"])
    text = capsys.readouterr().out
    assert "Conv(c2, k=1, s=1, p=None, g=1, d=1, act=True)" in text and "Batch Normalization, 2015" in text
    assert "[-1, 1, Conv, [64, 3, 2]]" in text and re.search(r"^  k +kernel size", text, re.MULTILINE)
    main(["blocks"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["kind", "module", "purpose"] and len(lines) >= len(MODULES) + 1


def test_json(capsys):
    main(["blocks", "Conv", "--format", "json"])
    assert json.loads(capsys.readouterr().out)["arguments"][2]["name"] == "k"
    main(["blocks", "--format", "json"])
    assert {module["name"] for module in json.loads(capsys.readouterr().out)} >= {module.name for module in MODULES}


def test_unknown_names_get_a_suggestion():
    with pytest.raises(UserError, match="'Conf'.*did you mean 'Conv'"):
        main(["blocks", "Conf"])


def test_torch_layers_and_plugins(tmp_path, capsys, restore_registry):
    upsample = describe_module("nn.Upsample")
    assert upsample.signature.startswith("nn.Upsample(size=None, scale_factor=None") and "torch.nn" in upsample.source
    path = tmp_path / "blocks_of_mine.py"
    path.write_text(
        "from torch import nn\n\n"
        "class Doubled(nn.Module):\n"
        '    """Twice the input.\n\n'
        "    Args:\n        c1 (int): input\n            channels.\n        factor, power: numbers.\n\n    Not an argument: text.\n"
        '    """\n'
        "    def __init__(self, c1, factor=2, power=1):\n        super().__init__()\n"
        "    def forward(self, x):\n        return 2 * x\n"
    )
    load_plugins([path])
    module = describe_module("Doubled")
    assert [argument.meaning for argument in module.arguments] == ["input channels.", "numbers.", "numbers."]
    assert module.details == "Not an argument: text." and module.signature == "Doubled(factor=2, power=1)"
    main(["blocks", "Doubled"])
    assert "Twice the input." in capsys.readouterr().out


def test_page_of_the_documentation_has_every_module():
    """That it is current is tested with the other generated pages."""
    page = (ROOT / "docs" / "blocks.md").read_text(encoding="utf-8")
    assert all(f"\n### {module.name}\n" in page for module in MODULES)
