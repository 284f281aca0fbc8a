"""Classes pasted from forks of YOLOv5: what they import is there, and what is not is reported by its name."""

import builtins
import copy
import importlib
import sys

import pytest
import torch

from graftdet.models import BLOCKS, load_plugins
from graftdet.models.__main__ import main
from graftdet.models.graph.modules import find_block
from graftdet.utils.errors import UserError
from tests.models.graph.test_plugins import ROOT, model_of, write

pytestmark = pytest.mark.usefixtures("restore_registry")
COMMON = ROOT / "tests" / "fixtures" / "plugins" / "fork" / "models" / "common.py"
BODY = """
class Pasted(nn.Module):
    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        self.cv = {0}
    def forward(self, x):
        return self.cv(x)
"""
IMPORTS = [
    ("import torch.nn as nn\nfrom models.common import Conv, autopad", "Conv(c1, c2, k, s, autopad(k))"),
    ("import torch.nn as nn\nfrom models.common import Conv", "Conv(c1, c2, k, s, None, 1, nn.ReLU())"),
    ("import torch.nn as nn\nfrom models.common import DWConv", "DWConv(c1, c2, k, s, False)"),
    ("import torch.nn as nn\nimport models.common as mc", "mc.Conv(c1, c2, k)"),
    ("import torch.nn as nn\nfrom models import common", "common.GhostConv(c1, c2, k)"),
    ("import torch.nn as nn\nfrom models.experimental import CrossConv", "CrossConv(c1, c2, k)"),
    ("import torch.nn as nn\nfrom models.yolo import Conv, Detect", "Conv(c1, c2)"),
    ("import torch.nn as nn\nfrom models.attention.cbam import CBAM", "nn.Sequential(CBAM(c1, c1), nn.Conv2d(c1, c2, 1))"),
    ("import torch.nn as nn\nfrom ultralytics.nn.modules import C2f, Conv", "C2f(c1, c2)"),
    ("import torch.nn as nn\nfrom ultralytics.nn.modules.conv import Conv", "nn.Sequential(Conv(c1, c2))"),
    ("import torch.nn as nn\nfrom ultralytics.nn.modules.block import SPPF as S", "S(c1, c2)"),
    ("import torch.nn as nn\nfrom ultralytics.utils.torch_utils import fuse_conv_and_bn, make_divisible", "nn.Conv2d(c1, make_divisible(c2, 8), 3, 1, 1)"),
    ("import torch.nn as nn\nfrom utils.general import make_divisible, LOGGER", "nn.Conv2d(c1, make_divisible(c2, 8), 1)"),
    ("import torch.nn as nn\nfrom utils.torch_utils import fuse_conv_and_bn", "nn.Conv2d(c1, c2, 1)"),
    ("import torch.nn as nn\nfrom .conv import Conv", "Conv(c1, c2)"),
    ("import torch.nn as nn\nfrom ..modules.conv import Conv", "Conv(c1, c2)"),
    ("import torch.nn as nn\nfrom models.blocks import Conv", "Conv(c1, c2)"),
    ("import torch.nn as nn\nfrom models.blocks.conv import Conv", "Conv(c1, c2)"),
    ("from models.common import *", "nn.Sequential(C3(c1, c2), nn.Dropout(math.pi / 4))"),
    ("from utils.general import *\nfrom models.experimental import *", "Conv(c1, c2)"),
]  # fmt: skip


@pytest.mark.parametrize(("imports", "layer"), IMPORTS, ids=lambda text: text.splitlines()[-1])
def test_published_imports_of_a_pasted_class(tmp_path, imports, layer):
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("models", "utils")}
    finders = list(sys.meta_path)
    assert load_plugins([write(tmp_path / "mine.py", imports + BODY.format(layer))]) == ["Pasted"]
    model = model_of("Pasted", [64])
    assert model.shapes[2][0] == 32 and len(copy.deepcopy(model).model) == 4
    after = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("models", "utils")}
    assert after == before and "ultralytics" not in sys.modules and sys.meta_path == finders


def test_published_classes_are_those_of_the_project(tmp_path):
    text = "import torch.nn as nn\nfrom models.common import Conv, C3" + BODY.format(
        "Conv(c1, c2, k, s, None, 1, False)"
    )
    load_plugins([write(tmp_path / "mine.py", text)])
    block = find_block("Pasted").block(4, 8)
    assert isinstance(block.cv, BLOCKS["Conv"]) and isinstance(block.cv.act, torch.nn.Identity)
    assert set(block.state_dict()) >= {"cv.conv.weight", "cv.bn.weight"}
    fused = copy.deepcopy(block).eval()
    fused.cv.fuse()
    x = torch.rand(1, 4, 8, 8)
    assert torch.allclose(fused(x), block.eval()(x), atol=1e-5) and isinstance(fused.cv.bn, torch.nn.Identity)


@pytest.mark.parametrize(
    ("imports", "message"),
    [
        ("from models.common import Conv, Transformer9", "line 2: models.common has no 'Transformer9'"),
        ("from models.common import Convv", "did you mean 'Conv'?; for plugins it has "),
        ("from ultralytics.nn.modules.block import Nothing", "ultralytics.nn.modules.block has no 'Nothing'"),
        ("from models.common import Nixda", "has no 'Nixda'; for plugins it has "),
        ("from utils.general import nothing_at_all", "has no 'nothing_at_all'; for plugins it has "),
        ("from .conv import Nothing", ".conv has no 'Nothing'"),
    ],
)
def test_a_published_name_that_is_lacking_is_reported_with_all_there_are(tmp_path, imports, message):
    name = imports.rpartition(" ")[2]
    path = write(tmp_path / "mine.py", f"import torch.nn as nn\n{imports}" + BODY.format(f"{name}(c1, c2)"))
    with pytest.raises(UserError) as caught:
        load_plugins([path])
    text = str(caught.value)
    assert text.startswith(f"--plugins {path}: line 2: ") and message in text
    assert ("did you mean" in text) == ("did you mean" in message)
    assert all(f" {name}," in text for name in ("autopad", "Bottleneck", "GhostConv", "make_divisible", "SPPF"))


@pytest.mark.parametrize(
    ("text", "line", "name", "to_add"),
    [
        ("import torch.nn as nn" + BODY.format("Conv(c1, c2, 3)"), 5, "Conv", "from models.common import Conv"),
        ("import torch.nn as nn" + BODY.format("nn.Conv2d(c1, make_divisible(c2, 8), 1)"), 5, "make_divisible", "from models.common import make_divisible"),
        ("from torch import nn" + BODY.format("nn.Conv2d(c1, c2, 1)").replace("self.cv(x)", "F.relu(self.cv(x))"), 7, "F", "import torch.nn.functional as F"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)  # fmt: skip
def test_a_name_that_is_not_imported_is_reported_with_the_line_to_add(tmp_path, text, line, name, to_add):
    path = write(tmp_path / "mine.py", text)
    with pytest.raises(UserError) as caught:
        load_plugins([path])
    assert str(caught.value) == (
        f"--plugins {path}: line {line}: Pasted uses '{name}', which is not imported; add \"{to_add}\""
    )


def test_a_base_class_that_is_not_imported_is_reported_with_the_line_to_add(tmp_path):
    path = write(tmp_path / "mine.py", "class Pasted(Conv):\n    pass\n")
    with pytest.raises(UserError, match=r'mine.py: line 1: NameError: .*; add "from models.common import Conv"'):
        load_plugins([path])


def test_one_class_with_a_missing_name_does_not_hide_the_others(tmp_path, capsys):
    text = (
        "import torch.nn as nn"
        + BODY.format("Conv(c1, c2)")
        + BODY.format("nn.Conv2d(c1, c2, 1)").replace("Pasted", "Good")
    )
    assert set(load_plugins([write(tmp_path / "mine.py", text)])) == {"Pasted", "Good"}
    assert "uses 'Conv', which is not imported; add \"from models.common import Conv\"" in capsys.readouterr().err
    assert model_of("Good", [64]).shapes[2][0] == 32
    with pytest.raises(
        UserError, match=r'row 2 .*Pasted: .*not defined; add "from models.common import Conv" \(mine.py:5\)'
    ):
        model_of("Pasted", [64])


def test_the_common_file_of_a_fork(capsys):
    names = load_plugins([COMMON])
    assert {"NewBlock", "NeedsPandas", "ExtraAttention", "common.Conv", "common.SPPF", "common.Concat"} <= set(names)
    notices = capsys.readouterr().err.splitlines()
    assert len(notices) == 1 and "'Conv', 'DWConv', 'Bottleneck', 'SPPF', 'Concat' exist already" in notices[0]
    model = model_of("NewBlock", [64], number=2)
    assert model.shapes[2] == (32, 160, 160) and len(model.model[2].m) == 2
    assert type(model.model[2].cv1) is BLOCKS["common.Conv"]
    assert find_block("SPPF").block.__module__.startswith("graftdet.")
    assert model_of("ExtraAttention", [64]).shapes[2][0] == 32
    with pytest.raises(
        UserError, match=r"row 2 .*NeedsPandas: .*common.py: line 7: ModuleNotFoundError: No module named"
    ):
        model_of("NeedsPandas", [])
    with pytest.raises(UserError, match="line 12: ModuleNotFoundError: No module named 'missing_pil'"):
        find_block("DecoratedByMissing").block()


def test_a_pasted_class_passes_conform_and_check(tmp_path, capsys):
    path = write(tmp_path / "mine.py", IMPORTS[0][0] + BODY.format(IMPORTS[0][1]))
    cfg = write(
        tmp_path / "m.yaml",
        "nc: 1\nanchors: 3\nbackbone: [[-1, 1, Pasted, [16, 3, 2]]]\nhead: [[[0], 1, Detect, [nc, anchors]]]\n",
    )
    main(["check", str(cfg), "--plugins", str(path)])
    assert ": ok, 2 rows" in capsys.readouterr().out


def test_imports_inside_functions_are_found_when_they_run(tmp_path):
    text = """import torch.nn as nn
class Pasted(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        from models.common import Conv
        import models.experimental as me
        self.cv = nn.Sequential(Conv(c1, c2), me.CrossConv(c2, c2))
    def forward(self, x):
        import math
        from utils.general import make_divisible
        return self.cv(x) * make_divisible(math.pi, 4)
class Lost(nn.Module):
    def forward(self, x):
        from models.common import Nothing
        return Nothing()(x)
"""
    load_plugins([write(tmp_path / "mine.py", text)])
    model = model_of("Pasted", [64])
    assert model.shapes[2][0] == 32 and type(model.model[2].cv[1]) is BLOCKS["CrossConv"]
    model(torch.rand(2, 3, 64, 64))
    assert "models.common" not in sys.modules and "utils.general" not in sys.modules
    with pytest.raises(UserError, match=r"row 2 .*Lost: .*cannot import name 'Nothing' .*\(mine.py:14\)"):
        model_of("Lost", [])


APPLICATION = {
    "utils/__init__.py": "import builtins\nbuiltins.runs_of_utils = getattr(builtins, 'runs_of_utils', 0) + 1\n"
    "from utils import names\nWIDTH = names.WIDTH\n",
    "utils/names.py": "WIDTH = 4\nSEEN = []\n",
    "plugins/mine.py": """import torch.nn as nn
from utils import WIDTH, names
from utils.names import SEEN
class Pasted(nn.Conv2d):
    def __init__(self, c1, c2):
        super().__init__(c1, c2, 1)
        import utils.names
        from utils import WIDTH as again
        assert utils.names is names and again == WIDTH == 4
        SEEN.append(c1)
""",
}


@pytest.mark.parametrize("is_imported", [False, True])
def test_packages_of_an_application_run_once(tmp_path, monkeypatch, is_imported):
    for name, text in APPLICATION.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(builtins, "runs_of_utils", 0, raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "utils"]:
        monkeypatch.delitem(sys.modules, name)
    if is_imported:
        imported = importlib.import_module("utils")
        spec = imported.names.__spec__
    load_plugins([tmp_path / "plugins" / "mine.py"])
    model_of("Pasted", [64])
    assert builtins.runs_of_utils == 1
    if is_imported:
        assert imported.names.SEEN == [16] and imported.names.__spec__ is spec and sys.modules["utils"] is imported
        del sys.modules["utils"], sys.modules["utils.names"]
    assert "utils" not in sys.modules


def test_a_file_in_another_encoding_is_named(tmp_path):
    text = "# \u732b\u72d7\nfrom torch import nn\nfrom models.common import Conv\n" + BODY.format("Conv(c1, c2, k)")
    (tmp_path / "mine.py").write_bytes(text.encode("gbk"))
    with pytest.raises(UserError, match=r"mine.py:1: not UTF-8, likely .*iconv -f .* > converted.py"):
        load_plugins([str(tmp_path / "mine.py")])
    (tmp_path / "declared.py").write_bytes(b"# coding: gbk\n" + text.encode("gbk"))
    load_plugins([str(tmp_path / "declared.py")])
    assert find_block("Pasted") is not None
