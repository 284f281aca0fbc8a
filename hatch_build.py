"""What a wheel carries below `graftdet/`: the directories and scripts that stand beside it in a checkout."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BESIDE = ("models", "utils", "data", "configs", "train.py", "val.py", "detect.py", "export.py")


class CustomBuildHook(BuildHookInterface):
    """Adds them to a standard wheel. An editable install finds them in the checkout (`graftdet/__init__.py`)."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built; `version` is "standard" or "editable"."""
        if version == "standard":
            build_data["force_include"] = {name: f"graftdet/{name}" for name in BESIDE}
