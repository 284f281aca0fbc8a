"""`python -m graftdet.models.editor.latency [PLUGIN ...]`: time the models whose YAMLs are on standard input."""

import json
import sys
from typing import Any

from graftdet.models.editor.model_report import DEFAULT_NC, SIZE
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.errors import UserError

REPEATS = 10


def measure(texts: list[list[str]], plugins: list[str]) -> dict[str, Any]:
    """Return milliseconds per image of each model, or the error.

    Args:
        texts: YAML and file name of each.
        plugins: files and packages of `--plugins`.
    """
    from graftdet.models.analysis.compare import time_torch
    from graftdet.models.graph.detection_model import DetectionModel
    from graftdet.models.graph.plugins import load_plugins

    try:
        if plugins:
            load_plugins(plugins)
        specs = [ModelSpec.from_text(text, file) for text, file in texts]
        models = [DetectionModel(spec.with_classes(spec.nc or DEFAULT_NC)).eval() for spec in specs]
        times = time_torch(models, (SIZE, SIZE), REPEATS)
    except UserError as error:
        return {"error": str(error)}
    return {"latencies": [{"median": t.median, "low": t.low, "high": t.high} for t in times]}


if __name__ == "__main__":
    print(json.dumps(measure(json.load(sys.stdin), sys.argv[1:])))
