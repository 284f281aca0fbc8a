"""Files that tutorials show: the block passes the checks, the model YAML has no problems, pictures are small."""

import re
from pathlib import Path

import pytest

from graftdet.models.__main__ import main
from graftdet.models.lint.check import check_model

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
MAX_BYTES = 150_000


def block_of(page, language):
    return re.search(rf"^```{language}\n(.*?)^```", (TUTORIALS / page).read_text(encoding="utf-8"), re.S | re.M)[1]


def test_the_attention_block_is_inserted_as_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my_attention.py").write_text(block_of("custom-attention.md", "python"))
    row = "[-1, 1, RowColumnGate, [4]]"
    flags = ["--plugins", "my_attention.py"]
    main(["insert", "yolov5n.yaml", "--after", "13", row, *flags, "-o", "yolov5n-gate.yaml"])
    main(["check", "yolov5n-gate.yaml", *flags])
    shown = capsys.readouterr().out.splitlines()[-1]
    assert shown in (TUTORIALS / "custom-attention.md").read_text(encoding="utf-8")


def test_the_ghostnet_model_has_no_problems(tmp_path):
    (tmp_path / "ghost-yolo.yaml").write_text(block_of("ghostnet-backbone.md", "yaml"))
    assert check_model(tmp_path / "ghost-yolo.yaml") == []


@pytest.mark.parametrize(
    "image", sorted((ROOT / "docs" / "images" / "tutorials").iterdir()), ids=lambda path: path.name
)
def test_images_are_small_and_used(image):
    pages = "".join(page.read_text(encoding="utf-8") for page in TUTORIALS.glob("*.md"))
    assert image.stat().st_size < MAX_BYTES and f"../images/tutorials/{image.name}" in pages
