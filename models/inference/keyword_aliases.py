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


def resolve_aliases(
    arguments: Mapping[str, Any], known: Iterable[str], function: str, given: Iterable[str] = ()
) -> dict[str, Any]:
    """Return arguments under their own names, with one warning for each other name.

    Args:
        arguments: the arguments that the function does not define.
        known: the names that it defines.
        function: its name, for messages.
        given: those of the names in `known` that the caller gave a value.

    Raises:
        UserError: an argument is unknown, with the nearest name, or is given under two names.
    """
    resolved: dict[str, Any] = {}
    names = {name: name for name in given}  # name here -> name that the caller used
    for name, value in arguments.items():
        if name not in ALIASES:
            raise UserError(f"{function}: unknown argument '{name}'{did_you_mean(name, [*known, *ALIASES])}")
        own = ALIASES[name]
        if own in names:
            raise UserError(f"{function}: '{names[own]}' and '{name}' are the same argument; give one of them")
        names[own] = name
        logger.warning("%s: '%s' is called '%s' here", function, name, own)
        resolved[own] = value
    return resolved
