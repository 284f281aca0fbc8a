"""`make sbom`: the software bill of materials of the pinned packages in the format CycloneDX 1.6, without network.

Versions and digests are those of requirements-hashes.txt, licenses those of the packages that are installed.
"""

import argparse
import json
import re
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import graftdet

ROOT = Path(__file__).resolve().parents[2]
_PACKAGE = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]+?))?\s*\\?$")
_DIGEST = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def read_packages(text: str) -> list[dict[str, Any]]:
    """Name, version, marker and digests of each package of a requirements file with hashes."""
    packages: list[dict[str, Any]] = []
    for line in text.splitlines():
        if match := _PACKAGE.match(line):
            packages.append({**match.groupdict(), "digests": []})
        elif digest := _DIGEST.search(line):
            packages[-1]["digests"].append(digest[1])
    return packages


def component(package: dict[str, Any]) -> dict[str, Any]:
    """The entry of a package."""
    purl = f"pkg:pypi/{package['name'].lower()}@{package['version']}"
    entry: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": package["name"], "version": package["version"]}
    if text := _license(package["name"]):
        entry["licenses"] = [{"license": {"name": text}}]
    entry["purl"] = purl
    entry["properties"] = [{"name": "graftdet:sha256", "value": digest} for digest in package["digests"]]
    if package["marker"]:
        entry["properties"].append({"name": "graftdet:marker", "value": package["marker"]})
    return entry


def _license(name: str) -> str:
    """The license of an installed package in a few words, empty where it names none or is not installed."""
    try:
        fields = metadata(name)
    except PackageNotFoundError:
        return ""
    classifiers = [text.split(" :: ")[-1] for text in fields.get_all("Classifier") or () if text.startswith("License")]
    candidates = (fields.get("License-Expression"), fields.get("License"), *classifiers)
    return next((text for text in candidates if text and len(text) < 100 and text != "UNKNOWN"), "")


def bill_of_materials(text: str) -> dict[str, Any]:
    """The document for a requirements file with hashes. Equal input gives equal output."""
    root = f"pkg:pypi/graftdet@{graftdet.__version__}"
    about = {"type": "application", "bom-ref": root, "name": "graftdet", "version": graftdet.__version__}
    components = [component(package) for package in read_packages(text)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**about, "licenses": [{"license": {"id": "Apache-2.0"}}], "purl": root}},
        "components": components,
        "dependencies": [{"ref": root, "dependsOn": [entry["bom-ref"] for entry in components]}],
    }


def main() -> int:
    """Write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "sbom.json", help="file to write")
    options = parser.parse_args()
    document = bill_of_materials((ROOT / "requirements-hashes.txt").read_text(encoding="utf-8"))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{options.out}: {len(document['components'])} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
