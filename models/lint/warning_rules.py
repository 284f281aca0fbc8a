"""The rules of `models check` about what can be built and is probably not meant; those of errors are in `rules`."""

from graftdet.models.lint.rule import C3_ROW, LAST_ROW, Rule

WARNINGS = (
    Rule(
        "unused-row",
        "warning",
        "lint.graph_warnings",
        "No row reads this row, so it only costs time.",
        "[[7, 9], 1, Detect, [nc, anchors]]",
        LAST_ROW,
    ),
    Rule(
        "duplicate-source",
        "warning",
        "lint.graph_warnings",
        "A row reads the same row more than once.",
        "[[-1, 8], 1, Concat, [1]]",
        "[[-1, 4], 1, Concat, [1]]",
    ),
    Rule(
        "level-strides",
        "warning",
        "lint.graph_warnings",
        "Two levels of the head have the same stride, or the levels are not in the order of their strides.",
        "[[6, 7, 10], 1, Detect, [nc, anchors]]",
        LAST_ROW,
    ),
    Rule(
        "anchor-sizes",
        "warning",
        "lint.graph_warnings",
        "The anchors are not in the order of their sizes, or are probably not in pixels.",
        "anchors: [[1.25, 1.6], [1.9, 3.8]]",
        "anchors: [[10, 13], [30, 61]]",
        "anchors: 3",
    ),
    Rule(
        "renamed-argument",
        "warning",
        "graph.errors",
        "An argument is given by an older name, which will be removed.",
        "[[7, 10], 1, AnchorFreeDetect, {nc: nc, bins: 8}]",
        "[[7, 10], 1, AnchorFreeDetect, {nc: nc, reg_max: 8}]",
        LAST_ROW,
    ),
    Rule(
        "written-width",
        "warning",
        "graph.errors",
        "The args of a row begin with the input width, which the parser fills in; it is read as that width.",
        "[-1, 1, SELayer, [32]]",
        "[-1, 1, SELayer, []]",
        C3_ROW,
    ),
    Rule(
        "written-number",
        "warning",
        "graph.errors",
        "The args of a row give the argument n, which is the row's number elsewhere; it is read as n.",
        "[-1, 1, C3, [32, 2, True, 1, 0.5]]",
        "[-1, 2, C3, [32, True, 1, 0.5]]",
        C3_ROW,
    ),
    Rule(
        "suspicious-argument",
        "warning",
        "lint.argument_warnings",
        "A block accepts an argument that is probably not meant.",
        "[-1, 1, C3, [64, 3]]",
        "[-1, 1, C3, [64, False]]",
    ),
)
