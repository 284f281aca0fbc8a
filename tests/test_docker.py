"""The Docker files: what they copy and install exists, and the package data is in the build context."""

import fnmatch
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "docker").iterdir())
INSTRUCTIONS = {"FROM", "RUN", "ARG", "COPY", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}


def instructions(path):
    """(instruction, rest) of each line, with continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return [line.split(maxsplit=1) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_docker_file_installs_what_the_readme_names(path):
    found = instructions(path)
    assert {name for name, _ in found} <= INSTRUCTIONS and found[0][0] == "FROM"
    for name, rest in found:
        if name == "COPY":
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
        if name == "FROM":
            assert re.fullmatch(r"\S+:[\w.-]*\d[\w.-]*", rest), f"{rest}: expected a version"
    commands = " ".join(rest for name, rest in found if name == "RUN")
    assert all(library in commands for library in re.findall(r"`(lib\w+[\d.-]+\d*)`", (ROOT / "README.md").read_text()))
    assert "-c /tmp/constraints.txt" in commands
    assert [name for name, _ in found].index("USER") < [name for name, _ in found].index("ENTRYPOINT")


def test_the_build_context_holds_the_package():
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("!")]
    pyproject = (ROOT / "pyproject.toml").read_text()
    needed = re.search(r"only-include = \[(.*?)\]", pyproject, re.S)[1]
    for name in re.findall(r'"([^"]+)"', needed):
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in ignored), name


@pytest.mark.parametrize("name", ["bug", "feature", "config"])
def test_issue_templates_are_valid(name):
    content = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert all({"type", "id", "attributes"} <= set(entry) for entry in content.get("body", []))
