"""Other names of the arguments of `predict`, as other programs and earlier versions call them."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from graftdet.utils.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)
ALIASES = {
    "img": "imgsz",
    "img_size": "imgsz",
    "size": "imgsz",
    "conf_thres": "conf",
    "confidence": "conf",
    "iou_thres": "iou",
    "agnostic_nms": "agnostic",
    "batch": "batch_size",
    "max_detections": "max_det",
    "images": "source",
}
"""Other name -> name here."""


def resolve_aliases(arguments: Mapping[str, Any], known: Iterable[str], function: str) -> dict[str, Any]:
    """Return arguments under their own names, with one warning for each other name.

    Args:
        arguments: the arguments that the function does not define.
        known: the names that it defines.
        function: its name, for messages.

    Raises:
        UserError: an argument is unknown; suggests the nearest name.
    """
    resolved = {}
    for name, value in arguments.items():
        if name not in ALIASES:
            raise UserError(f"{function}: unknown argument '{name}'{did_you_mean(name, [*known, *ALIASES])}")
        logger.warning("%s: '%s' is called '%s' here", function, name, ALIASES[name])
        resolved[ALIASES[name]] = value
    return resolved
