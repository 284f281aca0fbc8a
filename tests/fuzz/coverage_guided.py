"""Fuzz a reader guided by coverage: atheris keeps inputs that reach code which no earlier input has reached.

`pip install atheris`, then `python -m tests.fuzz.coverage_guided coco_json --seconds 60`. An input that ends in
anything but a result or a `UserError`, or takes more than 15 seconds, is written to `crash-*` or `timeout-*`.
"""

import argparse
import contextlib
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Reader = tuple[bytes, Callable[[bytes], object]]
"""Valid content, from which damaged ones are made, and what reads one."""


def readers(folder: Path) -> dict[str, Reader]:
    """Return the readers by name; their files lie in `folder`."""
    import torch
    from safetensors.torch import save

    from graftdet.data.dataset_config import load_data_config, open_split
    from graftdet.models.analysis.trainings import best_epoch
    from graftdet.models.backends.ncnn import check_graph
    from graftdet.models.lint.check import check_spec
    from graftdet.models.spec.model_spec import ModelSpec
    from graftdet.models.weights.weights_file import load_weights
    from graftdet.utils.hyperparameters import load_hyperparameters
    from graftdet.utils.images.io import write_image
    from graftdet.utils.visualization.plots import read_results
    from tests.fuzz import test_readers as samples

    for place in ("images/train", "images/val", "JPEGImages"):
        write_image(folder / place / "a.png", np.full((20, 40, 3), 90, np.uint8))
    for place in ("labels/train", "Annotations"):
        (folder / place).mkdir(parents=True)
    (folder / "labels/train/a.txt").write_text(samples.ROWS)
    data_yaml = {
        "rows.yaml": samples.DATA,
        "coco.yaml": "train: {images: images/train, annotations: a.json}\nval: {images: images/val, annotations: a.json}\n",
        "voc.yaml": "train: JPEGImages\nval: JPEGImages\nnames: [cat]\n",
    }
    for name, text in data_yaml.items():
        (folder / name).write_text(text)

    def file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def call(data: bytes) -> object:
            (folder / name).write_bytes(data)
            return read(folder / name)

        return call

    def dataset(name: str) -> Callable[[Path], object]:
        return lambda _: open_split(load_data_config(folder / name), "train").ground_truth()

    def model_yaml(data: bytes) -> None:
        check_spec(ModelSpec.from_text(data.decode("utf-8", "replace"), "x.yaml", lambda problem: None), [])

    torch.save({"model": {"a.weight": torch.zeros(2, 3)}, "names": ["a", "b"]}, folder / "whole.pt")
    weights = (folder / "whole.pt").read_bytes()
    return {
        "model_yaml": (samples.MODEL.encode(), model_yaml),
        "data_yaml": (samples.DATA.encode(), file("d.yaml", lambda path: open_split(load_data_config(path), "train"))),
        "hyperparameters": (samples.HYPERPARAMETERS.encode(), file("h.yaml", load_hyperparameters)),
        "label_rows": (samples.ROWS.encode(), file("labels/train/a.txt", dataset("rows.yaml"))),
        "coco_json": (json.dumps(samples.COCO).encode(), file("a.json", dataset("coco.yaml"))),
        "voc_xml": (samples.VOC.encode(), file("Annotations/a.xml", dataset("voc.yaml"))),
        "results_csv": (samples.TABLE.encode(), file("r.csv", lambda path: (read_results(path), best_epoch(path)))),
        "weights": (weights, file("w.pt", load_weights)),
        "safetensors": (save({"a.weight": torch.zeros(2, 3)}), file("w.safetensors", load_weights)),
        "ncnn_graph": (samples.PARAM, lambda data: check_graph(Path("a.param"), data, 10**6)),
    }


def main() -> None:
    """Fuzz one reader for a while."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("reader")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit("install atheris: pip install atheris")
    with atheris.instrument_imports(include=["graftdet", "yaml", "json"]), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = readers(folder)
        if options.reader not in found:
            parser.error(f"reader {options.reader}: expected {', '.join(found)}")
        content, call = found[options.reader]
        from graftdet.utils.errors import UserError

        logging.disable(logging.CRITICAL)
        corpus = folder / "corpus"
        corpus.mkdir()
        (corpus / "valid").write_bytes(content)

        def once(data: bytes) -> None:
            with contextlib.suppress(UserError):
                call(data)

        arguments = [f"-max_total_time={options.seconds}", "-timeout=15", "-rss_limit_mb=1500", "-max_len=20000"]
        atheris.Setup([sys.argv[0], *arguments, str(corpus)], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
