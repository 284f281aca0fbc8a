"""Blocks of other authors: whatever their arguments are called, one file and one YAML row are enough."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graftdet.models import BLOCKS, build_model, load_plugins
from graftdet.models.__main__ import main
from graftdet.models.graph.modules import find_block
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils import cli
from graftdet.utils.checkpoint import save_checkpoint
from graftdet.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
NAMES = ROOT / "tests" / "fixtures" / "plugins" / "names.py"
JOINS = NAMES.with_name("joins.py")


pytestmark = pytest.mark.usefixtures("restore_registry")


def model_of(module, args, number=1, width_multiple=0.5, source=-1):
    rows = [[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32]], [source, number, module, args]]
    head = [[[2], 1, "Detect", ["nc", "anchors"]]]
    return build_model({"nc": 2, "anchors": 3, "width_multiple": width_multiple, "backbone": rows, "head": head})


ROWS = [  # module, args, number, arguments that the constructor gets, output shape at 640
    ("C1C2", [64, 3, 2], 1, {"c1": 16, "c2": 32, "k": 3, "s": 2}, (32, 160, 160)),
    ("InpOup", [64, 2], 1, {"inp": 16, "oup": 32, "stride": 2}, (32, 160, 160)),
    ("InpOup", [{"oup": 64, "stride": 2}], 2, {"inp": 16, "oup": 32, "stride": 2}, (32, 160, 160)),
    ("InChannels", [64, {"stride": 2}], 1, {"in_channels": 16, "out_channels": 32, "stride": 2}, (32, 160, 160)),
    (
        "InChs",
        [48, 64, 5, 2],
        3,
        {"in_chs": 16, "mid_chs": 48, "out_chs": 32, "dw_kernel_size": 5, "stride": 2},
        (32, 160, 160),
    ),
    ("Dim", [], 2, {"dim": 16}, (16, 320, 320)),
    ("Dim", [4.0], 1, {"dim": 16, "mlp_ratio": 4.0}, (16, 320, 320)),
    ("Inherits", [64, 3, 2], 1, {"c1": 16, "c2": 32, "k": 3, "s": 2}, (32, 160, 160)),
    ("HandsOn", [64, 3, {"gate": False}], 1, {"c1": 16, "c2": 32, "k": 3, "gate": False}, (32, 320, 320)),
    ("NoInit", [64, 3], 1, {"c1": 16, "c2": 32, "k": 3}, (32, 320, 320)),
    ("KeywordOnly", [64, 5], 1, {"in_channels": 16, "out_channels": 32, "kernel": 5}, (32, 320, 320)),
    ("Unknown", [64, 5], 2, {"before": 16, "after": 32, "k": 5}, (32, 320, 320)),
    ("Repeats", [64], 3, {"in_planes": 16, "out_planes": 32, "n": 3}, (32, 320, 320)),
    ("Data", [8], 1, {"channels": 16, "reduction": 8}, (16, 320, 320)),
    ("NoArguments", [], 1, {}, (16, 320, 320)),
    ("Pool", [3], 1, {"kernel": 3}, (16, 160, 160)),
    ("BasicBlock", [64, 2], 3, {"inplanes": 16, "planes": 32, "stride": 2}, (128, 160, 160)),
]


@pytest.mark.parametrize(("module", "args", "number", "expected", "shape"), ROWS)
def test_arguments_are_recognized_by_their_usual_names(module, args, number, expected, shape):
    load_plugins([NAMES])
    model = model_of(module, args, number)
    assert model.block_calls[2].kwargs == expected and model.block_calls[2].args == [] and model.shapes[2] == shape
    boxes, scores = model.eval()(torch.rand(2, 3, 64, 64))
    assert boxes.shape[0] == scores.shape[0] == 2
    loss = sum(raw.square().mean() for raw in model.train()(torch.rand(2, 3, 64, 64)))
    loss.backward()


def test_blocks_with_star_arguments_and_several_inputs():
    load_plugins([NAMES])
    star = model_of("Star", [64, 1, 2, 3])
    assert star.block_calls[2].args == [16, 32, 1, 2, 3] and len(star.model[2].convs) == 3
    assert model_of("Sum", [], source=[-1, 0]).shapes[2] == (16, 320, 320)
    for args, message in [
        ([64, 3, 1, None, 1, 1, True, 9], "takes at most 7 arguments"),
        ([64, {"gates": True}], "has no argument 'gates'; did you mean 'gate'"),
        ([64, {"stride": 2}], "has no argument 'stride'; did you mean 's'"),
    ]:
        with pytest.raises(UserError, match="row 2") as caught:
            model_of("NoInit" if "gates" not in str(args) else "HandsOn", args)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("module", "args", "given", "width"),
    [
        ("WeightedAdd", [64], {"c1": 16, "c2": 32}, 32),
        ("ConcatConv", [64], {"in_channels": 32, "out_channels": 32}, 32),
        ("ListOfWidths", [64], {"in_channels_list": [16, 16], "out_channels": 32}, 32),
        ("CountOfMaps", [], {}, 16),
        ("CountOfMaps", [2], {"n_inputs": 2}, 16),
    ],
)
def test_a_block_with_several_inputs_gets_its_widths_as_a_list_a_number_or_a_sum(module, args, given, width):
    load_plugins([JOINS])
    model = model_of(module, args, source=[-1, 0])
    assert model.block_calls[2].kwargs == given and model.shapes[2] == (width, 320, 320)


def test_a_block_that_cannot_join_its_inputs_is_reported():
    load_plugins([JOINS])
    for source, message in (
        ([-1, 0], "missing 1 required positional argument: 'y'; a block that joins takes one list of maps"),
        (-1, "argument: 'y'"),
    ):
        with pytest.raises(UserError, match=r"row 2 .*TwoArguments: .*" + message):
            model_of("TwoArguments", [], source=source)


def test_only_public_block_classes_of_the_file_are_registered():
    names = load_plugins([NAMES])
    assert "C1C2" in names and not {"_Helper", "Conv", "helper_function", "dataclass"} & set(names)
    assert load_plugins([NAMES]) == names


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


BLOCK = """from torch import nn
class {0}(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.m = nn.Conv2d(c1, c2, 1)
    def forward(self, x):
        return self.m(x)
"""


def test_an_ambiguous_block_name_is_an_error(tmp_path, capsys):
    """A class that the file itself uses is a helper; any other class with the name of a known block is ambiguous."""
    text = BLOCK.format("SELayer") + BLOCK.format("Conv") + BLOCK.format("Mine").replace("nn.Conv2d(", "Conv(")
    path = write(tmp_path / "mine.py", text.replace("super().__init__()", "super(SELayer, self).__init__()", 1))
    assert set(load_plugins([path])) == {"mine.SELayer", "mine.Conv", "Mine"}
    assert (
        "'Conv' exists already" in capsys.readouterr().err
        and find_block("Conv")[0].__module__ == "graftdet.models.blocks.conv"
    )
    for find in (lambda: find_block("SELayer"), lambda: model_of("SELayer", [64])):
        with pytest.raises(
            UserError,
            match=r"'SELayer' is a block of the project and a class of .*mine.py; write 'mine.SELayer' for the latter, or",
        ):
            find()
    assert model_of("mine.SELayer", [64]).shapes[2][0] == 32
    graft = write(
        tmp_path / "m.yaml",
        "nc: 1\nanchors: 3\nbackbone: [[-1, 1, SELayer, []]]\nhead: [[[0], 1, Detect, [nc, anchors]]]\n",
    )
    with pytest.raises(SystemExit):
        main(["check", str(graft), "--plugins", str(path)])
    assert "row 0 (backbone row 0): 'SELayer' is a block of the project and a class of" in "".join(capsys.readouterr())


def test_plugins_may_import_helper_modules_and_reuse_block_names(tmp_path):
    write(tmp_path / "ein Ordner" / "side_helper_a.py", "WIDTH = 8\n")
    write(tmp_path / "ein Ordner" / "side_helper_b.py", BLOCK.format("Inner"))
    text = (
        "from side_helper_a import WIDTH\nfrom .side_helper_b import Inner\n"
        + BLOCK.format("SELayer")
        + BLOCK.format("Mine")
    )
    path = write(tmp_path / "ein Ordner" / "my_blocks.py", text.replace("self.m = nn", "self.w = WIDTH; self.m = nn"))
    names = load_plugins([path])
    assert set(names) == {"Inner", "my_blocks.SELayer", "Mine"}
    assert (
        BLOCKS["SELayer"].__module__.startswith("graftdet.models.")
        and model_of("my_blocks.SELayer", [64]).shapes[2][0] == 32
    )


def test_dunder_all_and_explicit_registration_select_the_blocks(tmp_path):
    text = "from models import BLOCKS\n__all__ = ['One']\n" + BLOCK.format("One") + BLOCK.format("Two")
    text += "@BLOCKS.register('Third', width_out='c2', rule='plain')\nclass T(nn.Identity): pass\n"
    assert set(load_plugins([write(tmp_path / "b.py", text)])) == {"One", "Third"}
    assert model_of("Third", []).shapes[2] == (16, 320, 320)


def test_a_package_is_loaded_by_its_dotted_name(tmp_path, monkeypatch):
    write(tmp_path / "stranger_pkg" / "__init__.py", BLOCK.format("Top"))
    write(tmp_path / "stranger_pkg" / "parts" / "deep.py", BLOCK.format("Deep"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError,
        match="'stranger_pkg.Top' is not a known module; a block of an installed package is allowed by --plugins stranger_pkg",
    ):
        find_block("stranger_pkg.Top")
    assert "stranger_pkg" not in sys.modules
    assert load_plugins(["stranger_pkg"]) == ["stranger_pkg.Top"]
    assert model_of("stranger_pkg.Top", [64]).shapes[2][0] == 32
    assert model_of("stranger_pkg.parts.deep.Deep", [64]).shapes[2][0] == 32
    for module, message in [
        ("stranger_pkg.Tap", "has no block 'Tap'"),
        ("stranger_pkg.nothing.X", "cannot be imported"),
        ("os.path", "is not a known module"),
    ]:
        with pytest.raises(UserError, match=message):
            find_block(module)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_like_this", "ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("x = 1\ndef f(:\n", "line 2: SyntaxError"),
        ("x = 1\n\n1 / 0\n", "line 3: ZeroDivisionError"),
        ("import sys\nsys.exit(3)\n", "SystemExit"),
        ("x = 1\n", "defines no nn.Module class"),
        (
            "from models import BLOCKS\nfrom torch import nn\n@BLOCKS.register('Conv')\nclass A(nn.Module): pass\n",
            "block 'Conv' is registered already",
        ),
        (None, "no such file"),
    ],
)
def test_errors_name_the_file(tmp_path, text, message):
    path = tmp_path / "bad blocks.py"
    if text is not None:
        write(path, text)
    with pytest.raises(UserError) as caught:
        load_plugins([path])
    assert str(caught.value).startswith(f"--plugins {path}") and message in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        load_plugins(["no_such_package_anywhere"])


def test_errors_name_the_line_of_a_file_in_the_working_directory(tmp_path, monkeypatch):
    write(tmp_path / "bad.py", "x = 1\nimport nothing_like_this\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--plugins bad.py: line 2: ModuleNotFoundError"):
        load_plugins(["bad.py"])


def test_an_unknown_module_of_a_checkpoint_is_reported_with_the_flag(tmp_path):
    load_plugins([NAMES])
    model = model_of("C1C2", [64])
    path = tmp_path / "best.pt"
    save_checkpoint(path, {"yaml": model.yaml_text, "names": ["a", "b"], "nc": 2, "model": model.state_dict()})
    assert build_from_weights(load_weights(path)).nc == 2
    for module in load_plugins([NAMES]):
        BLOCKS._entries.pop(module)
    with pytest.raises(UserError, match="'C1C2' is not a known module.*--plugins"):
        build_from_weights(load_weights(path))


def test_every_command_accepts_plugins(tmp_path, capsys):
    path = write(
        tmp_path / "m.yaml",
        (ROOT / "configs" / "models" / "yolov5n.yaml")
        .read_text()
        .replace("9, C3,", "9, InpOup,")
        .replace("InpOup, [512]", "InpOup, [512, 1]"),
    )
    main(["check", str(path), "--plugins", str(NAMES)])
    assert ": ok, 25 rows" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: main(["summary", str(path), "--plugins", str(tmp_path / "nothing.py")]))
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_without_the_flag_no_plugin_is_loaded(tmp_path):
    path = write(
        tmp_path / "m.yaml",
        "nc: 1\nanchors: 3\nbackbone: [[-1, 1, C1C2, [8]]]\nhead: [[[0], 1, Detect, [nc, anchors]]]\n",
    )
    result = subprocess.run(
        [sys.executable, "-m", "models", "summary", str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (
        result.returncode == 2 and "'C1C2' is not a known module" in result.stderr and "Traceback" not in result.stderr
    )
