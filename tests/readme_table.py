"""Update the README's table of model YAMLs: `python -m tests.readme_table`."""

import re
from pathlib import Path

from graftdet.models import build_model
from graftdet.models.analysis.summary import summarize, totals
from graftdet.utils.config import CONFIGS
from graftdet.utils.tables import markdown_table

README = Path(__file__).resolve().parents[1] / "README.md"
SPAN = re.compile(r"(<!-- models -->\n).*(<!-- /models -->)", re.S)


def table() -> str:
    """One row per YAML of configs/models: parameters, GMACs and GFLOPs at 640x640, strides."""
    rows = []
    for path in sorted((CONFIGS / "models").glob("*.yaml"), key=lambda p: p.name.lower()):
        model = build_model(path)
        t = totals(summarize(model))
        strides = " ".join(f"{s:g}" for s in model.head.strides)
        rows.append(
            [path.name, f"{t['params'] / 1e6:.2f}", f"{t['macs'] / 1e9:.2f}", f"{t['flops'] / 1e9:.2f}", strides]
        )
    return markdown_table(["YAML", "params (M)", "GMACs", "GFLOPs", "strides"], rows) + "\n"


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(SPAN.sub(lambda m: m[1] + table() + m[2], text), encoding="utf-8")
