"""Augmentation that lowers the quality of an image, as cameras and files do. NumPy and OpenCV, no torch.

Images are (h, w, 3) BGR uint8; boxes stay where they are. No function changes its arguments.
"""

import cv2
import numpy as np

MAX_BLUR = 2.0  # standard deviation in pixels
MAX_NOISE = 20.0  # standard deviation in gray levels
JPEG_QUALITY = (20, 80)


def blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur an image: in half of the cases as out of focus, else as moved along a random direction.

    The strength is uniform, up to a standard deviation of two pixels.
    """
    sigma = rng.uniform(0.3, MAX_BLUR)
    if rng.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    length = max(3, round(sigma * np.sqrt(12)))  # of a line with this standard deviation
    side = length | 1
    kernel = np.zeros((side, side), np.float32)
    angle = rng.uniform(0, np.pi)
    offset = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
    middle = side // 2
    ends = [tuple(int(v) for v in np.rint(middle + sign * offset)) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise, independent in each pixel and channel, with a standard deviation of up to 20 gray levels."""
    deviation = rng.uniform(0, MAX_NOISE)
    values = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(deviation)
    return np.clip(np.rint(image + values), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Compress an image as JPEG with a quality from 20 to 80 and read it again."""
    quality = int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)
