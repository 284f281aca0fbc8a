"""GraftDet: light object detectors whose graph is edited row by row in a YAML file.

The public names are imported on first use, so that `import graftdet` loads neither torch nor OpenCV:

    from graftdet import build_model, load_model

    model = build_model("yolov5n.yaml", nc=3)  # a DetectionModel, untrained
    detector = load_model("best.pt")  # a checkpoint, a published file or an exported one

The scripts are the modules `graftdet.train`, `graftdet.val`, `graftdet.detect` and `graftdet.export`.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graftdet.export import export_model
    from graftdet.models.backends.loading import load_model
    from graftdet.models.graph.detection_model import build_model
    from graftdet.models.graph.plugins import load_plugins
    from graftdet.train import train_model
    from graftdet.utils.training.loggers.callback import Callback
    from graftdet.val import validate_model

__version__ = "0.2.0"
__all__ = [
    "Callback",
    "__version__",
    "build_model",
    "export_model",
    "load_model",
    "load_plugins",
    "train_model",
    "validate_model",
]

_MODULE_OF = {  # public name -> the module that defines it
    "build_model": "models",
    "load_model": "models",
    "load_plugins": "models",
    "train_model": "train",
    "Callback": "utils.training.loggers.callback",
    "validate_model": "val",
    "export_model": "export",
}

_root = Path(__file__).resolve().parents[1]
if not Path(__file__).with_name("models").is_dir():  # a checkout: models, utils, data and the scripts lie in the root
    __path__.append(str(_root))


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'graftdet' has no attribute '{name}'")
    value = getattr(import_module(f"graftdet.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
