"""A suggestion is made only where a typing error is likely; the message about any other names its source."""

import pytest

from graftdet.models.blocks import BLOCKS
from graftdet.models.graph.module_names import edit_distance, likely_typo, module_hint
from graftdet.models.graph.modules import find_block
from graftdet.utils.errors import UserError

CHOICES = [*BLOCKS, "Detect"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("C33", "C3"),
        ("conv", "Conv"),
        ("Cnov", "Conv"),
        ("Cov", "Conv"),
        ("Botleneck", "Bottleneck"),
        ("BottelneckCSP", "BottleneckCSP"),
        ("C3_Ghst", "C3Ghost"),
        ("C3_GhostModul", "C3_GhostModule"),
        ("SPPFF", "SPPF"),
        ("Concatt", "Concat"),
        ("Dettect", "Detect"),
        ("coord_att", "CoordAtt"),
        ("RepNCSPELN4", "RepNCSPELAN4"),
    ],
)
def test_likely_typing_errors(name, meant):
    assert likely_typo(name, CHOICES) == meant


@pytest.mark.parametrize(
    "name", ["SCAM", "Involution", "C4", "CBM", "CAM", "ECAM", "GCM", "Conv9", "MobileNetV5", "Xyz"]
)
def test_names_of_other_modules_are_no_typing_errors(name):
    assert likely_typo(name, CHOICES) is None


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ("conv", "conv", 0),
        ("cnov", "conv", 1),
        ("seam", "stem", 2),
        ("cov", "conv", 1),
        ("", "ab", 2),
        ("abc", "ca", 3),
    ],
)
def test_edit_distance(first, second, distance):
    assert edit_distance(first, second) == edit_distance(second, first) == distance


@pytest.mark.parametrize(
    ("module", "parts"),
    [
        ("BiLevelRoutingAttention", ["known from BiFormer (Zhu et al., CVPR 2023)", "--plugins FILE.py"]),
        ("models.extra.BiLevelRoutingAttention", ["known from BiFormer", "--plugins FILE.py"]),
        ("MyOwnThing", ["load your own blocks with --plugins FILE.py"]),
        ("SPPFF", ["did you mean 'SPPF'? Otherwise load its class with --plugins FILE.py"]),
        ("a_package.Block", ["allowed by --plugins a_package"]),
    ],
)
def test_every_message_about_an_unknown_module_names_plugins(module, parts):
    assert all(part in module_hint(module) for part in parts)
    with pytest.raises(UserError, match=f"'{module}' is not a known module; "):
        find_block(module)
