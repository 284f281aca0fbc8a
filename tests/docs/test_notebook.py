"""The notebook runs from top to bottom."""

import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
SHORTER = {  # what the notebook writes -> what is run here
    "    epochs=1,": '    epochs=1, workers=0, device="cpu", plots="none",',
    '"--img", "320"': '"--img", "64"',
}


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    notebook = json.loads((ROOT / "docs" / "notebooks" / "graft.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and all(cell.get("outputs", []) == [] for cell in notebook["cells"])
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    for old, new in SHORTER.items():
        assert old in code
        code = code.replace(old, new)
    (tmp_path / "cells.py").write_text(code, encoding="utf-8")
    shown = []
    display = ModuleType("IPython.display")
    display.Image, display.display = bytes, shown.append
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("cells.py", run_name="__main__")
    printed = capsys.readouterr().out
    assert "'C3_GhostModul' is not a known module; did you mean 'C3_GhostModule'?" in printed
    assert "objects" in printed and len(shown) == 1 and shown[0].startswith(b"\x89PNG")
    assert len(list((tmp_path / "graft-notebook").rglob("*.onnx"))) == 1
