"""Hashes of the pinned packages, the software bill of materials, and the report of vulnerabilities."""

import json
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.dependencies.sbom import bill_of_materials, read_packages
from tests.dependencies.vulnerabilities import report

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "requirements-hashes.txt").read_text(encoding="utf-8")


def test_hashes_are_of_the_pinned_versions_and_complete():
    packages = {canonicalize_name(package["name"]): package for package in read_packages(TEXT)}
    assert len(packages) == sum(line[0].isalnum() for line in TEXT.splitlines()) > 100
    assert all(package["digests"] for package in packages.values()) and "://" not in TEXT
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    for name in pins.keys() & packages.keys():
        assert packages[name]["version"] == pins[name], f"{name}: run `make hashes`"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    for text in [*project["dependencies"], *extras["dev"], *[t for name in everything.extras for t in extras[name]]]:
        name = canonicalize_name(Requirement(text).name)
        assert name in {*packages, "graftdet"}, f"{name} has no hashes: run `make hashes`"


def test_bill_of_materials():
    text = (
        "# a comment\nPyYAML==6.0.3 \\\n    --hash=sha256:" + "a" * 64 + " \\\n    --hash=sha256:" + "b" * 64 + "\n"
        "nvidia-nvtx==13.0 ; sys_platform == 'linux' \\\n    --hash=sha256:" + "c" * 64 + "\n"
    )
    document = bill_of_materials(text)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    yaml, nvtx = document["components"]
    assert yaml["purl"] == "pkg:pypi/pyyaml@6.0.3" and yaml["licenses"] == [{"license": {"name": "MIT"}}]
    assert [entry["value"][0] for entry in yaml["properties"]] == ["a", "b"]
    assert nvtx["properties"][-1] == {"name": "graftdet:marker", "value": "sys_platform == 'linux'"}
    assert document["dependencies"][0]["dependsOn"] == [yaml["bom-ref"], nvtx["bom-ref"]]
    whole = bill_of_materials(TEXT)
    refs = [entry["bom-ref"] for entry in whole["components"]]
    assert len(refs) == len(set(refs)) == len(read_packages(TEXT))
    assert json.dumps(whole) == json.dumps(bill_of_materials(TEXT))


def test_vulnerabilities_are_reported_and_missing_data_is_one_line():
    for text in (None, "not JSON", "[]", '{"other": []}'):
        assert re.fullmatch("vulnerabilities: skipped, .*", report(text)[0]) and report(text)[1] == 0
    skipped = {"name": "a", "skip_reason": "not found"}
    assert "no data about any package" in report(json.dumps({"dependencies": [skipped]}))[0]
    good = {"name": "b", "version": "1", "vulns": []}
    assert report(json.dumps({"dependencies": [skipped, good]})) == (
        "vulnerabilities: 0 in 1 of 2 packages with data",
        0,
    )
    bad = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
    text, status = report(json.dumps({"dependencies": [good, bad]}))
    assert status == 1 and text.startswith("c 2: PYSEC-1, fixed in 3\n") and "1 in 2 of 2" in text
