"""Charts: formats, text of class names, SVG for pages, and that matplotlib is imported only where charts are drawn."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.visualization import drawing
from graftdet.utils.visualization.figures import INK, hex_color, legend, new_figure, save, styled, to_svg

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = '<script>alert("1")</script> & $x_{2}$ 细胞'


@styled
def chart(text="title"):
    figure, ((axes,),) = new_figure(3, 2)
    axes.plot([0, 1], [0, 1], marker="o")
    axes.set_title(text)
    legend(axes, [(f"_{text}", INK)])
    return figure


def test_files_in_several_formats(tmp_path):
    written = save(chart(), tmp_path / "neu é" / "a.b.png", ["png", "pdf", "svg"])
    assert [path.name for path in written] == ["a.b.png", "a.b.pdf", "a.b.svg"]
    starts = [path.read_bytes()[:5] for path in written]
    assert starts[0][1:4] == b"PNG" and starts[1] == b"%PDF-" and starts[2] == b"<?xml"
    assert [path.name for path in save(chart(), tmp_path / "default.pdf")] == ["default.png"]
    again = save(chart(), tmp_path / "again.png", ["svg"])[0]
    assert b"T00:" not in again.read_bytes() and b"dc:date" not in again.read_bytes()


def test_a_file_that_cannot_be_written_is_a_users_error(tmp_path):
    (tmp_path / "chart.png").mkdir()
    with pytest.raises(UserError, match=r"chart.png: cannot be written"):
        save(chart(), tmp_path / "chart.png")


def test_text_of_class_names_stays_text():
    svg = to_svg(chart(HOSTILE), "first")
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]
    assert HOSTILE in texts and any(text.strip() == f"_{HOSTILE}" for text in texts)  # in title and legend
    assert "<script" not in svg


def test_figures_of_one_page_share_no_ids_and_take_the_color_of_its_text():
    svgs = [to_svg(chart(), name, "a chart") for name in ("first", "second")]
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in svgs]
    assert ids[0] and not ids[0] & ids[1]
    assert INK not in svgs[0] and "currentColor" in svgs[0] and 'aria-label="a chart"' in svgs[0]
    assert svgs[0] == to_svg(chart(), "first", "a chart")  # the same at any time
    used = set(re.findall(r'#([a-z0-9]{6,})[")]', svgs[0]))
    assert {name for name in used if not re.fullmatch("[0-9a-f]{6}", name)} <= ids[0]


def test_colors_of_charts_are_those_of_boxes():
    blue, green, red = drawing.class_color(2)
    assert hex_color(2) == f"#{red:02x}{green:02x}{blue:02x}"
    assert [hex_color(k) for k in range(2)] == ["#d55e00", "#0072b2"]


@pytest.mark.parametrize(
    "module", ["graftdet.detect", "graftdet.train", "graftdet.val", "graftdet.models.inference.predictor"]
)
def test_matplotlib_is_imported_for_charts_only(module):
    code = f"import sys, {module}; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
