"""Models of a few rows."""

from graftdet.models import build_model

ANCHORS = [[10, 13, 16, 30, 33, 23]]


def model_of(*rows, nc=2, head=None, **keys):
    """A small model: `rows` and a one-level Detect on the last of them."""
    head = head or [[[-1], 1, "Detect", ["nc", "anchors"]]]
    return build_model({"nc": nc, "anchors": ANCHORS, "backbone": list(rows), "head": head, **keys})
