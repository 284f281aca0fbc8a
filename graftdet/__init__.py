"""GraftDet: light object detectors whose graph is edited row by row in a YAML file.

In a checkout this package finds `models`, `utils`, `data`, `configs` and the scripts in the repository root; a wheel
carries them below this folder.
"""

from pathlib import Path

_root = Path(__file__).resolve().parents[1]
if (_root / "models" / "spec").is_dir():  # a checkout
    __path__.append(str(_root))
