"""The documentation: generated pages are current, links lead somewhere, commands parse."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from docs import generate
from graftdet.utils.hyperparameters import Hyperparameters

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/tutorials/*.md"),
        ROOT / "README.md",
        ROOT / "README.zh-CN.md",
        ROOT / "CONTRIBUTING.md",
    ]
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.S | re.M)


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_pages_are_current(name):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generate.render(name)


def test_drawings_of_blocks_are_current():
    assert generate.update_drawings(write=False) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, target


def commands():
    """(page, command) of every command of a script in a code block."""
    for page in PAGES:
        for block in FENCE.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.split("  #")[0].strip()
                if not re.search(r"[\[|]", line) and re.match(
                    r"(\w+=\S+ )*python (train|val|detect|export)\.py |python -m (models|data) ", line
                ):
                    yield pytest.param(line, id=f"{page.name}: {line[:60]}")


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line):
    arguments = shlex.split(line.split(">")[0])
    arguments = arguments[arguments.index("python") + 1 :]
    if arguments[0] == "-m":
        parser = {"models": generate.models_parser, "data": generate.data_parser}[arguments[1]]()
        parser.parse_args(arguments[2:])
    else:
        generate.SCRIPTS[arguments[0].removesuffix(".py")].make_parser().parse_args(arguments[1:])


def test_the_generated_page_lists_every_key_once():
    page = generate.render("hyperparameters.md")
    for item in dataclasses.fields(Hyperparameters):
        assert page.count(f"| `{item.name}` | ") == 1, item.name
    assert "| `lr0` | 0.008 | 0.01 | learning rate after the warm-up | 0 or more |" in page
    assert "| `warmup_share` | `warmup_fraction` |" in page
