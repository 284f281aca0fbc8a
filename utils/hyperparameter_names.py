"""Other names of hyperparameters: old ones, which are still read, and those in other programs."""

import logging
from collections.abc import Mapping

from graftdet.utils.errors import UserError

logger = logging.getLogger(__name__)

ALIASES = {
    "rate_steps": "lr_update",
    "warmup_share": "warmup_fraction",
    "norm_momentum": "bn_momentum",
    "ema_share": "ema_fraction",
    "free_box": "af_box",
    "free_cls": "af_cls",
    "free_dfl": "af_dfl",
    "free_overlap": "af_iou_loss",
    "free_class": "af_cls_loss",
}
"""Old name of a key -> its name now. Old names are read everywhere; in files and flags with a warning."""

COMMON_NAMES = {
    "lr": "lr0",
    "learning_rate": "lr0",
    "wd": "weight_decay",
    "warmup": "warmup_epochs",
    "smoothing": "label_smoothing",
    "rotate": "degrees",
    "flip": "fliplr",
    "batch": "nominal_batch",
}
"""Name in other programs -> the key that is meant, for messages."""


def with_current_keys(values: Mapping[str, object]) -> dict[str, object]:
    """`values` by key, with old names of keys replaced (`ALIASES`); a current key wins over its old name."""
    renamed = {ALIASES[key]: value for key, value in values.items() if key in ALIASES}
    return renamed | {key: value for key, value in values.items() if key not in ALIASES}


def current_keys(values: Mapping[str, object], location: str) -> dict[str, object]:
    """`with_current_keys` for what a user wrote at `location`: warns about old names.

    Raises:
        UserError: a key is given by both names.
    """
    for key in values:
        if key in ALIASES:
            if ALIASES[key] in values:
                raise UserError(
                    f"{location}'{key}' is the old name of '{ALIASES[key]}', which is given, too; remove one"
                )
            logger.warning(f"{location}hyperparameter '{key}' is now named '{ALIASES[key]}'")
    return with_current_keys(values)
