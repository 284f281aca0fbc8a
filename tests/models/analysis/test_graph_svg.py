"""draw: one box per row, columns by stride, no overlaps."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from graftdet.models import build_model
from graftdet.models.__main__ import main
from graftdet.models.analysis.graph_layout import arrange
from graftdet.models.analysis.graph_svg import draw_model
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils import cli

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["yolov5n", "yolov3-tiny", "yolov5n6", "picodet-esnet-s", "ghostnet", "v5Lite-e"]


def parts_of(name):
    model = build_model(f"{name}.yaml")
    root = ElementTree.fromstring(draw_model(model))
    boxes = []
    for group in root.iter(f"{SVG}g"):
        rectangle = group.find(f"{SVG}rect")
        boxes.append(
            (
                [float(rectangle.get(k)) for k in ("x", "y", "width", "height")],
                [t.text for t in group.iter(f"{SVG}text")],
            )
        )
    return model, root, boxes


@pytest.mark.parametrize("name", NAMES)
def test_boxes_columns_and_arrows(name):
    model, root, boxes = parts_of(name)
    assert [text[0].split()[:2] for _, text in boxes] == [[str(row.index), row.module] for row in model.spec.rows]
    width, height = float(root.get("width")), float(root.get("height"))
    for i, ((x, y, w, h), _) in enumerate(boxes):
        assert x >= 0 and x + w <= width and y >= 0 and y + h <= height
        for (x2, y2, w2, h2), _ in boxes[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y, "boxes overlap"
    columns = {}
    for row, ((x, *_), _) in zip(model.spec.rows[:-1], boxes, strict=False):
        shape = model.shapes[row.index]
        stride = 640 // (shape[-1] if isinstance(shape, list) else shape)[1]
        columns.setdefault(stride, set()).add(x)
    assert all(len(xs) == 1 for xs in columns.values()), "one column per stride"
    in_order = [columns[stride].pop() for stride in sorted(columns)]
    assert in_order == sorted(in_order)
    assert len(root.findall(f"{SVG}path")) == sum(len(row.sources) for row in model.spec.rows)
    shown = " ".join(t.text for t in root.findall(f"{SVG}text"))
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in shown and "stride 16: 40x40" in shown


@pytest.mark.parametrize("name", ["graft-n", "yolov3-tiny", "nanodet-m"])
def test_no_line_crosses_an_arrowhead(name):
    _, root, _ = parts_of(name)
    arrows = [
        [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d"))]
        for path in root.findall(f"{SVG}path")
    ]
    assert all(len(points) >= 2 for points in arrows)
    for points in arrows:
        (x0, y0), (x, y) = points[-2:]
        x_back, y_back = x - 11 * ((x > x0) - (x < x0)), y - 11 * ((y > y0) - (y < y0))  # an arrowhead has 11 pixels
        left, right = sorted((x, x_back)) if x != x_back else (x - 5, x + 5)
        top, bottom = sorted((y, y_back)) if y != y_back else (y - 5, y + 5)
        for other in (other for other in arrows if other is not points):
            for (x1, y1), (x2, y2) in pairwise(other):
                assert max(x1, x2) <= left or min(x1, x2) >= right or max(y1, y2) <= top or min(y1, y2) >= bottom


def test_rows_are_below_their_sources():
    model, _, boxes = parts_of("yolov5n")
    for row in model.spec.rows:
        for source in (s for s in row.sources if s >= 0):
            (x, y, *_), (x2, y2, *_) = boxes[source][0], boxes[row.index][0]
            assert y < y2 or (y == y2 and x != x2)


def test_tracks_do_not_overlap():
    sources = [(-1,), (0,), (1,), (2, 0), (3, 1, 0), (4, 0), (5,)]
    layout = arrange(sources, [8] * 7)
    tracks = {}
    for (source, row), route in layout.routes.items():
        if route.kind == "track":
            for line in range(layout.cells[source][1], layout.cells[row][1]):
                assert tracks.setdefault((route.column, route.track, line), (source, row)) == (source, row)
    assert len(tracks) > 8


def test_names_are_shown_and_escaped():
    text = "nc: 1\nanchors: 3\nbackbone:\n  - [-1, 2, Conv, [8, 3, 2], 'a<b&c']\nhead:\n  - [[0], 1, Detect, [nc, anchors]]\n"
    root = ElementTree.fromstring(draw_model(build_model(ModelSpec.from_text(text, "x<y>.yaml")), (64, 96)))
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert "0  Conv x2 'a<b&c'" in texts and "x<y>.yaml" in texts and "8x32x48, 824" in texts


def test_command(tmp_path, capsys):
    path = tmp_path / "a folder" / "graph ü.svg"
    main(["draw", "yolov5n.yaml", "-o", str(path), "--nc", "2"])
    assert ElementTree.parse(path).getroot().tag == f"{SVG}svg" and "25 rows" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: main(["draw", "yolov5n.yaml", "-o", str(tmp_path / "graph.png")]))
    assert stop.value.code == 2 and "ends in .svg" in capsys.readouterr().err


def test_long_names_are_shortened_and_narrow_drawings_hold_their_title():
    """A box of 176 pixels has room for 30 characters; the tooltip has the complete text."""
    name = "the last of the first half"
    text = f"nc: 1\nanchors: 3\nbackbone:\n  - [-1, 2, ShuffleNetV2_InvertedResidual, [32, 2], {name}]\nhead:\n  - [[0], 1, Detect, [nc, anchors]]\n"
    root = ElementTree.fromstring(draw_model(build_model(ModelSpec.from_text(text, "x" * 200 + ".yaml")), (64, 64)))
    group = root.find(f"{SVG}g")
    first = group.find(f"{SVG}text").text
    assert len(first) <= 30 and first.startswith("0  Shuffle") and first.endswith("x2 'the last of…'")
    assert name in group.find(f"{SVG}title").text and "ShuffleNetV2_InvertedResidual" in group.find(f"{SVG}title").text
    for title in root.findall(f"{SVG}text")[:2]:
        assert float(title.get("x")) + 0.56 * float(title.get("font-size")) * len(title.text) <= float(
            root.get("width")
        )


def test_a_head_alone_is_drawn(tmp_path):
    model = build_model({"nc": 2, "anchors": 3, "backbone": [], "head": [[-1, 1, "Detect", ["nc", "anchors"]]]})
    assert "Detect" in draw_model(model, (64, 64))
