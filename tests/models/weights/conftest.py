"""Real published files, where they are present."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def published_file():
    """`published_file(name)`: the path of a file in WEIGHTS_DIR, else beside the datasets; skips where it is absent."""

    def find(name):
        datasets = Path(os.environ.get("DATASETS_DIR", Path(__file__).resolve().parents[3] / "datasets"))
        path = Path(os.environ.get("WEIGHTS_DIR", datasets.parent / "weights")) / name
        if not path.is_file():
            pytest.skip(f"needs {path}")
        return path

    return find
