"""The Python programs in the documentation run as they are, but for names of files and sizes."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORTER = {  # what a page writes -> what is run here
    "graft-n.yaml": "tiny.yaml",
    "ghost.yaml": "tiny.yaml",
    "mine.yaml": "data.yaml",
    'split="test"': 'split="val"',
    "img=320": "img=64",
    "img=640": "img=64",
    "epochs=50": 'epochs=1, device="cpu", workers=0, plots="none"',
    "runs/train/exp/weights/best.pt": "best.pt",
    "yolov5n.pt": "best.pt",
}


def programs(page):
    """The Python blocks of a page with the replacements of `SHORTER`."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for old, new in SHORTER.items():
        text = text.replace(old, new)
    return re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)


@pytest.mark.parametrize("page", ["python-api.md", "grafting.md", "exported-files.md"])
def test_the_programs_of_a_page_run(page, workspace, tiny_weights, tiny_yaml, tmp_path, monkeypatch):
    images = sorted((workspace / "shapes" / "images" / "val").iterdir())
    for name, image in zip(("street.jpg", "zoo.jpg", "image.jpg"), images, strict=False):
        (tmp_path / name).write_bytes(image.read_bytes())
    (tmp_path / "best.pt").write_bytes(tiny_weights.read_bytes())
    (tmp_path / "data.yaml").write_bytes((workspace / "data.yaml").read_bytes())
    (tmp_path / "tiny.yaml").write_text(tiny_yaml, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = programs(page)
    assert blocks
    for number, program in enumerate(blocks):
        path = tmp_path / f"program{number}.py"
        path.write_text(program, encoding="utf-8")
        runpy.run_path(str(path), run_name="__main__")
