"""Settings of the synthetic contours dataset: the keys of a data YAML with `format: contours`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from graftdet.utils.config import to_number
from graftdet.utils.errors import UserError, did_you_mean

BACKGROUNDS = ("plain", "gradient", "noise", "pattern", "regions")
"""Kinds of background: one color, a ramp, cloudy noise, a regular pattern, or areas of several kinds."""


@dataclass(frozen=True)
class ContourSettings:
    """What the images of the contours dataset look like. Lengths of objects are relative to the side of the image."""

    num_classes: int = 48  # `nc` or the number of `names` in the YAML
    image_size: int = 320  # side of the square images, in pixels
    objects: tuple[int, int] = (1, 12)  # objects per image: minimum, maximum
    radius: float = 0.09  # median radius of the objects
    radius_spread: float = 0.65  # standard deviation of the logarithm of the radius
    many_small: float = 0.15  # fraction of images with up to 40 small objects
    occlusion: float = 0.5  # largest hidden fraction of an object; 0: objects do not overlap
    min_pixels: int = 30  # objects with fewer visible pixels are not drawn
    backgrounds: tuple[str, ...] = BACKGROUNDS
    textures: bool = True  # textured objects; false: objects of one color
    holes: bool = True  # classes whose objects have a hole
    clutter: int = 8  # largest number of lines, rectangles and strokes, which are no objects
    distractors: int = 2  # largest number of polygons, which are no objects
    contrast: float = 0.25  # strength of changes of brightness and contrast, 0 to 1
    blur: float = 1.5  # largest standard deviation of the blur, in pixels
    noise: float = 10.0  # largest standard deviation of the noise, in gray levels
    seed: int = 0  # another seed gives other images of the same classes
    epoch_length: int = 12000  # training images per epoch; each epoch has new ones
    val_images: int = 500  # validation images

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "num_classes": (1, 10_000),
        "image_size": (32, 1280),
        "objects": (0, 100),
        "radius": (0.01, 0.4),
        "radius_spread": (0, 2),
        "many_small": (0, 1),
        "occlusion": (0, 0.9),
        "min_pixels": (4, 10_000),
        "clutter": (0, 100),
        "distractors": (0, 50),
        "contrast": (0, 1),
        "blur": (0, 10),
        "noise": (0, 100),
        "seed": (0, 2**32 - 1),
        "epoch_length": (1, 100_000_000),
        "val_images": (1, 100_000),
    }
    """Setting -> smallest and largest value."""

    @classmethod
    def yaml_keys(cls) -> tuple[str, ...]:
        """Return the keys of the data YAML."""
        return tuple(field.name for field in fields(cls) if field.name != "num_classes")

    @classmethod
    def from_yaml(cls, values: dict[str, Any], path: Path, num_classes: int | None) -> "ContourSettings":
        """Read and check the settings of a data YAML.

        Args:
            values: the content of the YAML; keys that are no settings are ignored.
            path: the YAML, for messages.
            num_classes: number of classes in the YAML; None for the default.

        Raises:
            UserError: for a value of another type or out of range; names file and key.
        """
        given: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
        for key in values:
            if key in cls.yaml_keys() and values[key] is not None:
                given[key] = _read(key, values[key], f"{path}: {key}")
        settings = cls(**given)
        for key, (low, high) in cls.RANGES.items():
            numbers = getattr(settings, key)
            for number in numbers if isinstance(numbers, tuple) else (numbers,):
                if not low <= number <= high:
                    name = "nc" if key == "num_classes" else key
                    raise UserError(f"{path}: {name}: expected {low:g} to {high:g}, got {number:g}")
        return settings


def _read(key: str, value: Any, where: str) -> Any:
    """The value of one key as the type of its field."""
    if key == "objects":
        return _read_range(value, where)
    if key == "backgrounds":
        return _read_backgrounds(value, where)
    return to_number(value, type(getattr(ContourSettings, key)), where)


def _read_range(value: Any, where: str) -> tuple[int, int]:
    """(minimum, maximum) from a list of two numbers, or from one number."""
    numbers = value if isinstance(value, list) else [value, value]
    if len(numbers) != 2:
        raise UserError(f"{where}: expected [minimum, maximum], got {value!r}")
    low, high = (to_number(number, int, where) for number in numbers)
    if low > high or high < 1:
        raise UserError(f"{where}: expected [minimum, maximum] with a maximum of at least 1, got [{low}, {high}]")
    return low, high


def _read_backgrounds(value: Any, where: str) -> tuple[str, ...]:
    kinds = [value] if isinstance(value, str) else value
    if not isinstance(kinds, list) or not kinds:
        raise UserError(f"{where}: expected a list of {', '.join(BACKGROUNDS)}, got {value!r}")
    for kind in kinds:
        if kind not in BACKGROUNDS:
            hint = did_you_mean(str(kind), BACKGROUNDS)
            raise UserError(f"{where}: unknown background {kind!r}{hint} (known: {', '.join(BACKGROUNDS)})")
    return tuple(kinds)
