"""pyproject.toml, requirements.txt, constraints.txt and the documents agree."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import graftdet

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]


def lines_of(name: str) -> list[str]:
    """Lines of a requirements file without comments."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def test_requirements_are_the_dependencies():
    assert lines_of("requirements.txt") == PROJECT["dependencies"]


def test_constraints_pin_a_version_of_everything():
    pins = {}
    for line in lines_of("constraints.txt"):
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), line
        name, _, version = line.partition("==")
        pins[canonicalize_name(name)] = version
    assert list(pins) == sorted(pins) and len(pins) == len(lines_of("constraints.txt"))
    wanted = [*PROJECT["dependencies"], *PYPROJECT["build-system"]["requires"], *chain(*EXTRAS.values())]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name != "graftdet":
            assert name in pins, f"{name} is not pinned"
            assert requirement.specifier.contains(pins[name]), f"{requirement}, pinned to {pins[name]}"


def test_the_extra_all_holds_every_extra_for_users_but_large_loggers_and_formats():
    (everything,) = map(Requirement, EXTRAS["all"])
    large = {"mlflow", "trackio", "wandb", "coreml", "executorch", "int8", "litert", "ncnn"}
    assert everything.extras == set(EXTRAS) - {"all", "dev", *large}


def test_pre_commit_uses_the_pinned_ruff():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert {pin for hook in hooks for pin in hook["additional_dependencies"] if "ruff" in pin} <= set(
        lines_of("constraints.txt")
    )


def test_documents_name_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == graftdet.__version__ and citation["license"] == PROJECT["license"]
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    versions = [version for version in versions if version != "Unreleased"]
    assert versions[0] == graftdet.__version__
