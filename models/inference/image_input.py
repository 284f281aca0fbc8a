"""Images of any kind into letterboxed arrays that a model takes. NumPy and OpenCV only."""

from collections.abc import Iterable, Iterator, Mapping
from io import IOBase
from itertools import chain
from numbers import Integral, Number
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from graftdet.utils.boxes import is_tensor
from graftdet.utils.errors import UserError
from graftdet.utils.images.bit_depth import DEPTHS
from graftdet.utils.images.io import apply_orientation, read_image, scale_to_uint8
from graftdet.utils.images.letterbox import letterbox
from graftdet.utils.sources.frame import Frame
from graftdet.utils.sources.source import open_source

KINDS = (
    "a path, an address, a camera number, an array (H, W, 3) uint8 BGR, a PIL image, a tensor (3, H, W) RGB, or a list "
    "of these"
)
_EXIF_ORIENTATION = 274
_OTHER_ITERABLES = (bytes, bytearray, memoryview, Mapping, IOBase)  # of numbers, names or lines, which are no images


class LoadedImage(NamedTuple):
    """An image and where it comes from.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        path: its file, None for an array.
        frame: its index within a video, None for an image.
    """

    image: np.ndarray
    path: Path | None = None
    frame: int | None = None


class LetterboxedImage(NamedTuple):
    """An image, its letterboxed form, and the transform between them.

    Attributes:
        source: the image as it was read.
        letterboxed: (h, w, 3) uint8 BGR.
        gain: scale of the letterboxed image.
        pad: (left, top) padding in pixels.
    """

    source: LoadedImage
    letterboxed: np.ndarray
    gain: float
    pad: tuple[float, float]


def is_batch(images: Any) -> bool:
    """Whether this is a batch (B, C, H, W) of model inputs: an array or a tensor, channels first."""
    if not (isinstance(images, np.ndarray) or is_tensor(images)) or getattr(images, "ndim", 0) != 4:
        return False
    return is_tensor(images) or images.shape[1] in (1, 3) or images.shape[3] not in (1, 3, 4)


def open_images(source: Any, stride: int = 1, depth: int = 16) -> tuple[Iterable[Any], bool]:
    """The images that a caller of `predict` gives, one by one.

    Args:
        source: one of `KINDS`, a batch of arrays or tensors, or an iterator over these.
        stride: of videos and streams, every `stride`-th frame is used.
        depth: bits that 16-bit image files use, 8 to 16.

    Returns:
        The images (frames, arrays, tensors, PIL images), and whether their number is not known before: videos, streams
        and iterators.

    Raises:
        UserError: a path that does not exist, something else than an image, or another depth.
    """
    if not isinstance(depth, Integral) or isinstance(depth, bool) or depth not in DEPTHS:
        raise UserError(f"depth: expected a whole number from {DEPTHS[0]} to {DEPTHS[-1]}, got {depth!r}")
    if isinstance(source, (str, Path)) or (isinstance(source, int) and not isinstance(source, bool)):
        opened = open_source(source, stride=stride, depth=depth, depth_option="depth={}")
        return opened, opened.has_videos
    if isinstance(source, np.ndarray) or (is_tensor(source) and hasattr(source, "ndim")):
        return ([source] if source.ndim < 4 else list(source)), False
    if _is_pil(source):
        return [source], False
    if not isinstance(source, Iterable) or isinstance(source, _OTHER_ITERABLES):
        raise UserError(f"expected {KINDS}; got {_kind_of(source)}")
    if not isinstance(source, (list, tuple)):
        return _read_now(source, stride, depth), True
    for item in source:
        if isinstance(item, (list, tuple)) and any(isinstance(value, Number) for value in item):
            raise UserError(f"expected {KINDS}; got a list of lists of numbers; convert it to an array")
    opened_items = [open_images(item, stride, depth) for item in source]
    return chain.from_iterable(images for images, _ in opened_items), any(is_lazy for _, is_lazy in opened_items)


def _read_now(items: Iterable[Any], stride: int, depth: int) -> Iterator[Any]:
    """The images of an iterator, which may yield one object several times with other content: read before the next."""
    for item in items:
        for image in open_images(item, stride, depth)[0]:
            if isinstance(image, (Frame, LoadedImage, str, Path)):
                yield image
            else:
                loaded = load_image(image, depth)
                shared = isinstance(image, np.ndarray)
                yield loaded._replace(image=loaded.image.copy()) if shared else loaded


def in_batches(images: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of at most `size` images; frames of live streams alone, because the next one is still to come."""
    batch = []
    for image in images:
        batch.append(image)
        if len(batch) == size or (isinstance(image, Frame) and image.info.kind == "stream"):
            yield batch
            batch = []
    if batch:
        yield batch


def letterbox_image(image: Any, size: tuple[int, int], stride: int, auto: bool, depth: int = 16) -> LetterboxedImage:
    """Read and letterbox an image.

    Args:
        image: a path of an image, a frame, an array, a tensor or a PIL image, see `load_image`.
        size: (height, width) to fit the image into.
        stride: with `auto`, sides become the nearest multiples of it.
        auto: pad to multiples of `stride` only, instead of to `size`.
        depth: bits that 16-bit images use.

    Raises:
        UserError: the file is not a readable image, or the array is of another kind.
    """
    loaded = load_image(image, depth)
    return LetterboxedImage(loaded, *letterbox(loaded.image, size, stride, auto))


def group_by_shape(shapes: list[tuple[int, ...]], batch_size: int) -> list[list[int]]:
    """Indices of equal `shapes` in groups of at most `batch_size`."""
    by_shape: dict[tuple, list[int]] = {}
    for index, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(index)
    return [same[i : i + batch_size] for same in by_shape.values() for i in range(0, len(same), batch_size)]


def _kind_of(value: Any) -> str:
    """The type of a value that is no image, and what to do with it."""
    hints = {bytes: "an encoded image is decoded by cv2.imdecode", dict: "give its values"}
    hint = next((f"; {text}" for kind, text in hints.items() if isinstance(value, kind)), "")
    return type(value).__name__ + hint


def load_image(image: Any, depth: int = 16) -> LoadedImage:
    """Convert one image to (H, W, 3) uint8 BGR.

    Args:
        image: a path, a `Frame`, a `LoadedImage`, an array (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA of uint8,
            a PIL image, or a tensor (C, H, W) RGB or gray, uint8 0..255 or float 0..1.
        depth: bits that 16-bit images use; below 16, arrays may be uint16, too.

    Raises:
        UserError: it is none of these, or cannot be read.
    """
    if isinstance(image, LoadedImage):
        return image
    if isinstance(image, Frame):
        return LoadedImage(image.image, Path(image.path), image.index)
    if isinstance(image, (str, Path)):
        return LoadedImage(read_image(image, depth=depth), Path(image))
    if is_tensor(image):
        return LoadedImage(_from_tensor(image))
    if _is_pil(image):
        name = getattr(image, "filename", "")
        return LoadedImage(_from_pil(image, depth), Path(name) if name else None)
    return LoadedImage(_from_array(image, depth))


def _from_array(image: Any, depth: int) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        raise UserError(f"expected {KINDS}; got {_kind_of(image)}")
    image = np.asarray(image)  # of subclasses such as np.matrix
    if image.dtype == np.uint16 and depth < 16:
        image = scale_to_uint8(image, depth)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        bits = ", or give the bits that it uses: depth=12" if image.dtype == np.uint16 else ""
        hint = f"; scale it to 0..255 and convert it with .astype('uint8'){bits}" if image.dtype != np.uint8 else ""
        raise UserError(f"expected an array (H, W, 3) uint8 BGR, got {image.dtype} {image.shape}{hint}")
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.shape[2] not in (3, 4):
        hint = "; channels come last: image.transpose(1, 2, 0)" if image.shape[0] in (1, 3) else ""
        raise UserError(f"expected an array (H, W, 3) uint8 BGR, got {image.shape}{hint}")
    return image[..., :3]


def _from_tensor(image: Any) -> np.ndarray:
    """A tensor (C, H, W) or (H, W), RGB or gray -> (H, W, 3) uint8 BGR."""
    if image.is_sparse or image.is_quantized or image.device.type == "meta":
        raise UserError("expected a dense tensor with data, got a sparse, quantized or meta tensor")
    array = image.detach().cpu().float().numpy() if image.is_floating_point() else image.detach().cpu().numpy()
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[0] not in (1, 3) or not array.size:
        raise UserError(f"expected a tensor (3, H, W) RGB, uint8 or float in 0..1, got {tuple(image.shape)}")
    if array.dtype == np.float32:
        low, high = float(array.min()), float(array.max())
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise UserError(f"expected a tensor of floats in 0..1, got {low:.3g} to {high:.3g}; divide by 255")
        array = (array * 255).round().clip(0, 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"expected a tensor of uint8 or floats in 0..1, got {image.dtype}")
    return np.ascontiguousarray(np.broadcast_to(array, (3, *array.shape[1:]))[::-1].transpose(1, 2, 0))


def _is_pil(image: Any) -> bool:
    """Whether this is an image of Pillow, which need not be installed."""
    return any(base.__module__ == "PIL.Image" and base.__name__ == "Image" for base in type(image).__mro__)


def _from_pil(image: Any, depth: int) -> np.ndarray:
    """A PIL image -> (H, W, 3) uint8 BGR, upright as its EXIF orientation says."""
    try:
        image.load()
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception as error:  # plugins raise errors of any kind for malformed files
        raise UserError(f"{getattr(image, 'filename', '') or 'PIL image'}: cannot be read ({error})") from None
    if not image.width * image.height:
        raise UserError(f"expected a PIL image with pixels, got one of {image.width}x{image.height}")
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow reads 16-bit gray images as 32-bit integers, too
        values = np.asarray(image).clip(0, 65535).astype(np.uint16)
        array = np.repeat(scale_to_uint8(values, depth)[..., None], 3, axis=2)
    else:
        array = cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR)
    return apply_orientation(array, orientation if orientation in range(1, 9) else 1)
