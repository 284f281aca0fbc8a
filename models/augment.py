"""Test-time augmentation: one batch seen at several sizes and mirrored, its boxes put together. No torch needed."""

import cv2
import numpy as np

VIEWS = ((1.0, False), (0.83, True), (0.67, False))  # (scale, mirrored), the published choice
FILL = 114


def augmented(model, images):
    """Decode images (B, 3, H, W) in each of `VIEWS`.

    Returns boxes (B, N, 4) xyxy in pixels of `images` and scores (B, N, nc) of all views together, numpy; they are
    made for non-maximum suppression. `model` is a `models.predictor.Predictor`. The published form also leaves out
    the largest boxes of the largest view and the smallest of the smallest one; here all are kept.
    """
    images = _as_array(images)
    width = images.shape[3]
    all_boxes, all_scores = [], []
    for scale, mirrored in VIEWS:
        view = images[..., ::-1] if mirrored else images
        view, gain = _scaled(view, scale, model.stride, model.fixed_size)
        boxes, scores = (_as_array(part) for part in model(np.ascontiguousarray(view)))
        boxes = boxes / np.array([gain[1], gain[0]] * 2, dtype=np.float32)
        if mirrored:
            boxes = np.stack((width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]), axis=-1)
        all_boxes.append(boxes)
        all_scores.append(scores)
    return np.concatenate(all_boxes, axis=1), np.concatenate(all_scores, axis=1)


def _scaled(images: np.ndarray, scale: float, stride: int, fixed: tuple[int, int] | None):
    """Shrink (B, 3, H, W) and fill right and below to a multiple of `stride`, or to `fixed`.

    Returns the pictures and the real gains (vertical, horizontal).
    """
    height, width = images.shape[2:]
    if scale == 1.0:
        return images, (1.0, 1.0)
    new_h, new_w = round(height * scale), round(width * scale)
    full_h, full_w = fixed or (-(-new_h // stride) * stride, -(-new_w // stride) * stride)
    fill = FILL if images.dtype == np.uint8 else FILL / 255
    result = np.full((*images.shape[:2], full_h, full_w), fill, images.dtype)
    for target, image in zip(result, images, strict=True):
        small = cv2.resize(image.transpose(1, 2, 0), (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        target[:, :new_h, :new_w] = small.transpose(2, 0, 1)
    return result, (new_h / height, new_w / width)


def _as_array(array) -> np.ndarray:
    """numpy or torch, any device -> numpy; float16 becomes float32."""
    if not isinstance(array, np.ndarray):
        array = array.detach()
        array = (array.float() if array.is_floating_point() else array).cpu().numpy()
    return array.astype(np.float32) if array.dtype == np.float16 else array
