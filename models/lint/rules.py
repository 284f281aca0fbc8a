"""The rules of `models check`: id, severity, origin, summary, example and fix, in one table."""

from collections.abc import Mapping

from graftdet.models.lint.rule import C3_ROW, EXAMPLE_MODEL, JOIN_ROW, LAST_ROW, Rule
from graftdet.models.lint.warning_rules import WARNINGS

_HEAD = EXAMPLE_MODEL[EXAMPLE_MODEL.index("head:") :]
_WHOLE_BACKBONE = """\
nc: 3
anchors: 3
backbone:
  - [-1, 1, GhostNet, [1.0, [4, 6, 9]]]
head:
  - {rows}
  - [[{last}], 1, Detect, [nc, anchors]]
"""
_STRIDES = """\
nc: 3
anchors: 3
backbone:
  - [-1, 1, Conv, [16, 3, {stride}]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 2], 1, Concat, [1]]
  - [[1, 5, 3], 1, Detect, [nc, anchors]]
"""

_ERRORS = (
    Rule(
        "yaml-syntax",
        "error",
        "spec.yaml_syntax",
        "The text is not valid YAML: a bracket, quote, colon or dash is missing, or a line is indented wrongly.",
        "[-1, 1, C3, [32]",
        C3_ROW,
    ),
    Rule(
        "unknown-key",
        "error",
        "spec.keys",
        "A key of the file is not known.",
        "ncs: 3",
        "nc: 3",
    ),
    Rule(
        "missing-section",
        "error",
        "spec.keys",
        "`backbone` or `head` is missing, is no list of rows, or both are empty.",
        "head: Detect",
        _HEAD.rstrip("\n"),
    ),
    Rule(
        "invalid-value",
        "error",
        "spec.keys",
        "A number of the file (`nc`, `ch`, `depth_multiple`, `width_multiple`) is not a number, or out of range.",
        "nc: three",
        "nc: 3",
    ),
    Rule(
        "class-names",
        "error",
        "spec.keys",
        "`names` is no list or numbered mapping of different names, or does not agree with `nc`.",
        "nc: 3\nnames: [circle, square]",
        "nc: 3\nnames: [circle, square, triangle]",
        "nc: 3",
    ),
    Rule(
        "model-size",
        "error",
        "graph.size_limit",
        "The model has too many rows, or its weights or a map take more than 1 GiB; `--allow-large` allows more.",
        "[-1, 1, C3, [1000000]]",
        C3_ROW,
    ),
    Rule(
        "missing-classes",
        "error",
        "lint.diagnosis",
        "The file has neither `nc` nor `names`, so the number of classes is not known.",
        "# neither nc nor names",
        "nc: 3",
    ),
    Rule(
        "invalid-anchors",
        "error",
        "spec.keys",
        "`anchors` is neither a number per level nor one list of widths and heights in pixels per level.",
        "anchors: [[10, 13, 16], [30, 61, 62]]",
        "anchors: [[10, 13, 16, 30], [30, 61, 62, 45]]",
        "anchors: 3",
    ),
    Rule(
        "invalid-scales",
        "error",
        "spec.scales",
        "The table `scales` of model sizes, or the key `scale` that chooses one of them, is wrong.",
        "nc: 3\nscales: {n: [0.33]}",
        "nc: 3\nscales: {n: [0.33, 0.25, 1024]}",
        "nc: 3",
    ),
    Rule(
        "invalid-activation",
        "error",
        "graph.detection_model",
        "`activation` names no activation of torch.nn, or one that cannot run on maps of any width.",
        "nc: 3\nactivation: nn.Leaky(0.1)",
        "nc: 3\nactivation: nn.LeakyReLU(0.1)",
        "nc: 3",
    ),
    Rule(
        "row-format",
        "error",
        "spec.row_repair",
        "A row is not of the form [from, number, module, args] or [from, number, module, args, name].",
        "[-1, C3, [32]]",
        C3_ROW,
    ),
    Rule(
        "row-number",
        "error",
        "spec.row_parser",
        "The number of a row is not a whole number from 1 to 1000.",
        "[-1, 0, C3, [32]]",
        C3_ROW,
    ),
    Rule(
        "row-name",
        "error",
        "spec.row_parser",
        "The name of a row is not text, or another row has it.",
        "[-1, 1, Conv, [64, 3, 2], p3]  # 4",
        "[-1, 1, Conv, [64, 3, 2], p4]  # 4",
        "[-1, 1, Conv, [64, 3, 2]]  # 4",
    ),
    Rule(
        "row-source",
        "error",
        "spec.row_parser",
        "`from` names no row before this one.",
        "[[-1, p4], 1, Concat, [1]]",
        JOIN_ROW,
    ),
    Rule(
        "unknown-module",
        "error",
        "graph.modules",
        "The module of a row is no block, head, layer of torch.nn or class of a plugin, or may be two of them.",
        "[-1, 1, C33, [32]]",
        C3_ROW,
    ),
    Rule(
        "head-position",
        "error",
        "graph.row_checks",
        "A head is not the last row, or the last row is not a head.",
        f"{LAST_ROW}  # 11\n  - [7, 1, Conv, [64]]  # 12",
        LAST_ROW + "  # 11",
    ),
    Rule(
        "invalid-arguments",
        "error",
        "graph.arguments",
        "A block cannot be built with the args of its row: one is unknown, missing, or of a wrong type or value.",
        "[-1, 1, C3, [wide]]",
        C3_ROW,
    ),
    Rule(
        "map-list",
        "error",
        "graph.row_builder",
        "A row reads a list of maps, such as a whole backbone or CBLinear gives, and takes one map.",
        _WHOLE_BACKBONE.format(last=1, rows="[-1, 1, Conv, [64]]"),
        _WHOLE_BACKBONE.format(last=2, rows="[0, 1, Index, [2]]\n  - [-1, 1, Conv, [64]]"),
        EXAMPLE_MODEL,
    ),
    Rule(
        "cannot-run",
        "error",
        "graph.row_checks",
        "A block was built, but cannot run on what it reads.",
        "[-1, 1, Contract, [3]]",
        "[-1, 1, Contract, [2]]",
        C3_ROW,
    ),
    Rule(
        "size-mismatch",
        "error",
        "graph.row_checks",
        "The maps that a row joins differ in height and width.",
        "[[-1, 2], 1, Concat, [1]]",
        "[[-1, 3], 1, Concat, [1]]",
        JOIN_ROW,
    ),
    Rule(
        "width-mismatch",
        "error",
        "graph.row_checks",
        "The maps that a row adds differ in their number of channels.",
        "[[-1, p3], 1, ADD, []]",
        JOIN_ROW,
    ),
    Rule(
        "source-misfit",
        "error",
        "lint.root_cause",
        "A row reads a row whose map does not fit further on; with the other source, all rows fit.",
        "[4, 1, C3, [64, False]]",
        "[-1, 1, C3, [64, False]]",
    ),
    Rule(
        "row-misfit",
        "error",
        "lint.root_cause",
        "A row changes the size of its map so that a later row does not fit; with the fix, all rows fit.",
        "[-1, 1, nn.MaxPool2d, [3, 1, 0]]",
        "[-1, 1, nn.MaxPool2d, [3, 1, 1]]",
        C3_ROW,
    ),
    Rule(
        "stale-indices",
        "error",
        "lint.stale_indices",
        "A row was inserted or removed by hand, and the indices of the rows after it were not renumbered.",
        "",
        f"  - {C3_ROW}  # 2\n",
    ),
    Rule(
        "strides",
        "error",
        "graph.detection_model",
        "The rows fit at 640x640 pixels, but not at larger sizes.",
        _STRIDES.format(stride=3),
        _STRIDES.format(stride=4),
        EXAMPLE_MODEL,
    ),
)

RULES: Mapping[str, Rule] = {rule.id: rule for rule in (*_ERRORS, *WARNINGS)}
"""Id -> rule."""
