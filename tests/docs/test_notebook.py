"""The notebook runs from top to bottom."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DISPLAY = """import sys, types
p, m = types.ModuleType('IPython'), types.ModuleType('IPython.display')
p.get_ipython, p.version_info = lambda: None, (9, 0)
m.Image, m.display = bytes, lambda image: print(len(image))
"""


def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    notebook = json.loads((ROOT / "docs" / "notebooks" / "graft.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and all(cell.get("outputs", []) == [] for cell in notebook["cells"])
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    stand_in = f"{DISPLAY}sys.modules |= {{'IPython': p, 'IPython.display': m}}"
    (tmp_path / "cells.py").write_text("\n".join([stand_in, *code]), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "cells.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert "'C3_GhostModul' is not a known module; did you mean 'C3_GhostModule'?" in done.stdout
    assert "objects" in done.stdout and len(list((tmp_path / "graft-notebook").rglob("*.onnx"))) == 1
