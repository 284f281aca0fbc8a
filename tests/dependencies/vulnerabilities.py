"""`make lint`: known vulnerabilities of the pinned packages, by pip-audit; one line where it cannot reach its data."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "requirements-hashes.txt"
SECONDS = 120


def audit(file: Path = FILE) -> str | None:
    """The report of pip-audit as JSON; None where it is not installed or fails."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(file), "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout or None


def report(text: str | None) -> tuple[str, int]:
    """What to print about a report of `audit`, and the exit status: 1 for vulnerabilities."""
    try:
        packages: list[dict[str, Any]] = json.loads(text or "")["dependencies"]
    except (ValueError, KeyError, TypeError):
        return "vulnerabilities: skipped, pip-audit is not installed or cannot reach its data", 0
    audited = [package for package in packages if "vulns" in package]
    if not audited:
        return "vulnerabilities: skipped, pip-audit has no data about any package", 0
    lines = [
        f"{package['name']} {package['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'none'}"
        for package in audited
        for found in package["vulns"]
    ]
    lines.append(f"vulnerabilities: {len(lines)} in {len(audited)} of {len(packages)} packages with data")
    return "\n".join(lines), int(len(lines) > 1)


def main() -> int:
    """Print the report; return the exit status."""
    text, status = report(audit())
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
