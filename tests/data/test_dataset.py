from dataclasses import replace

import numpy as np
import pytest

from graftdet.data.dataset import DetectionDataset, Item, ItemKey, UnreadableItem
from graftdet.data.formats.dataset_split import Split
from graftdet.data.formats.sample import Sample
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.images.io import write_image

WITHOUT_AUGMENTATION = replace(
    Hyperparameters(), hsv_h=0, hsv_s=0, hsv_v=0, degrees=0, translate=0, scale=0, fliplr=0, mosaic=0, close_mosaic=0
)


def sample(path, boxes, labels, shape, crowd=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(boxes)
    crowd = np.zeros(count, bool) if crowd is None else np.array(crowd, bool)
    ids = np.arange(count)
    return Sample(path, boxes, np.array(labels, np.int64), crowd, np.ones(count), ids, path.stem, shape[1], shape[0])


def make_split(folder, shapes):
    """Black images with one colored rectangle each, of value 100 + 25 * number in the red channel."""
    samples = []
    for number, (height, width) in enumerate(shapes):
        image = np.zeros((height, width, 3), np.uint8)
        box = [width // 4, height // 4, width // 2, height // 2]
        image[box[1] : box[3], box[0] : box[2], 2] = 100 + 25 * number
        path = folder / f"{number}.png"
        write_image(path, image)
        samples.append(sample(path, [box], [number], (height, width)))
    return Split("train", samples, [str(n) for n in range(len(shapes))], list(range(len(shapes))))


@pytest.fixture
def split(tmp_path):
    return make_split(tmp_path, [(40, 60), (60, 40), (64, 64), (30, 64), (64, 30), (50, 50)])


def pixels(item):
    """Targets as (class, x1, y1, x2, y2) in pixels of the item's image."""
    height, width = item.image.shape[1:]
    sides = item.targets[:, 3:] * (width, height)
    corner = item.targets[:, 1:3] * (width, height) - sides / 2
    return np.column_stack((item.targets[:, 0], corner, corner + sides))


def check_content(item, tolerance=1.0):
    """Each target surrounds the pixels of its own color."""
    for label, *box in pixels(item):
        own = np.abs(item.image[0].astype(int) - (100 + 25 * label)) < 12
        rows, columns = np.nonzero(own & (item.image[2] == 0))  # blue is 0 in images, 114 in the fill
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(seen) - box).max() <= tolerance + 1e-3


def test_gain_and_pad_map_boxes_back(split):
    dataset = DetectionDataset(split, 128)
    for index, (height, width) in enumerate([(40, 60), (60, 40), (64, 64)]):
        item = dataset[ItemKey(0, index, 128)]
        assert item.image.shape == (3, 128, 128) and item.image.dtype == np.uint8
        assert item.shape == (height, width)
        assert item.gain == 128 / max(height, width)
        assert item.image_id == str(index) and item.path.endswith(f"{index}.png") and item.index == index
        back = (pixels(item)[:, 1:] - np.tile(item.pad, 2)) / item.gain
        assert np.abs(back - split.samples[index].boxes).max() < 0.5 / item.gain
        check_content(item, tolerance=1.5)


def test_rectangular_shape(split):
    dataset = DetectionDataset(split, 64, rect=True)
    item = dataset[ItemKey(0, 3, 64, False, (32, 96))]
    assert item.image.shape == (3, 32, 96) and item.gain == 1.0 and item.pad == (16.0, 1.0)
    smaller = dataset[ItemKey(0, 3, 64, False, (32, 32))]  # does not fit: image and boxes are scaled down
    assert smaller.gain == 0.5 and smaller.pad == (0.0, 8.0)
    check_content(smaller, tolerance=1.5)
    assert dataset[ItemKey(0, 3, 32)].gain == 0.5


def test_augmentation_of_strength_zero_equals_letterboxing(split):
    plain, augmented = DetectionDataset(split, 64), DetectionDataset(split, 64, WITHOUT_AUGMENTATION, augment=True)
    for index in (0, 2, 3):
        a, b = plain[ItemKey(0, index, 64)], augmented[ItemKey(5, index, 64, True)]
        assert np.allclose(a.targets, b.targets, atol=0.5 / 64)
        assert np.abs(a.image.astype(int) - b.image).mean() < 8
    zoomed = augmented[ItemKey(5, 2, 96, True)]
    assert zoomed.image.shape == (3, 96, 96) and np.allclose(zoomed.targets, plain[ItemKey(0, 2, 64)].targets)


@pytest.mark.parametrize("size", [64, 96, 32])
@pytest.mark.parametrize("mosaic", [True, False])
def test_augmented_boxes_follow_their_content(split, size, mosaic):
    recipe = replace(WITHOUT_AUGMENTATION, scale=0.3, translate=0.1, fliplr=0.5, flipud=0.5, mosaic=1.0)
    dataset = DetectionDataset(split, 64, recipe, augment=True)
    seen = 0
    for epoch in range(10):
        item = dataset[ItemKey(epoch, epoch % 6, size, mosaic)]
        assert item.image.shape == (3, size, size)
        for label, x1, y1, x2, y2 in pixels(item):
            inner = item.image[0, int(y1 + 4) : int(y2 - 3), int(x1 + 4) : int(x2 - 3)]  # edges are blurred
            assert (np.abs(inner.astype(int) - (100 + 25 * label)) <= 8).all()
            seen += 1
    assert seen > 5


def test_random_draws_depend_on_seed_epoch_and_index_only(split):
    recipe = Hyperparameters(mixup=0.5)
    make = lambda seed=0, **more: DetectionDataset(split, 64, recipe, augment=True, seed=seed, **more)  # noqa: E731
    one, other = make(), make(cache="ram")
    keys = [ItemKey(epoch, index, 64, mosaic) for epoch in (0, 7) for index in range(6) for mosaic in (True, False)]
    first = {key: one[key] for key in keys}
    for key in reversed(keys):
        again = other[key]
        assert np.array_equal(first[key].image, again.image) and np.array_equal(first[key].targets, again.targets)
    assert not np.array_equal(first[keys[0]].image, make(seed=1)[keys[0]].image)
    assert not np.array_equal(first[ItemKey(0, 1, 64, True)].image, first[ItemKey(7, 1, 64, True)].image)


def test_numpy_global_state_is_unchanged(split):
    dataset = DetectionDataset(split, 64, Hyperparameters(), augment=True)
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    dataset[ItemKey(0, 0, 64, True)]
    assert np.array_equal(np.random.get_state()[1], state)


def test_mosaic_has_more_images_and_mixup_twice_as_many(split):
    many = DetectionDataset(split, 64, replace(WITHOUT_AUGMENTATION, mosaic=1.0), augment=True)
    mixed = DetectionDataset(split, 64, replace(WITHOUT_AUGMENTATION, mosaic=1.0, mixup=1.0), augment=True)
    single = np.mean([len(many[ItemKey(0, i, 64, False)].targets) for i in range(6)])
    four = np.mean([len(many[ItemKey(e, i, 64, True)].targets) for i in range(6) for e in range(5)])
    eight = np.mean([len(mixed[ItemKey(e, i, 64, True)].targets) for i in range(6) for e in range(5)])
    assert single == 1 and 1.2 < four < 4 and 1.6 * four < eight < 2.4 * four


@pytest.mark.parametrize("key", ["cutmix", "copy_blend"])
def test_mixed_regions_bring_objects_of_other_images_until_the_last_epochs(split, key):
    plain = replace(WITHOUT_AUGMENTATION, mosaic=0.0)
    mixed = DetectionDataset(split, 64, replace(plain, **{key: 1.0}), augment=True)
    labels = [set(mixed[ItemKey(epoch, 0, 64, True)].targets[:, 0]) for epoch in range(20)]
    assert len(set.union(*labels)) > 2
    last, without = mixed[ItemKey(19, 0, 64, False)], DetectionDataset(split, 64, plain, augment=True)
    assert np.array_equal(last.image, without[ItemKey(19, 0, 64, True)].image)


@pytest.mark.parametrize("key", ["blur", "noise", "jpeg"])
def test_degraded_images_keep_their_boxes(split, key):
    plain = replace(WITHOUT_AUGMENTATION, mosaic=0.0)
    clear = DetectionDataset(split, 64, plain, augment=True)[ItemKey(0, 1, 64)]
    worse = DetectionDataset(split, 64, replace(plain, **{key: 1.0}), augment=True)[ItemKey(0, 1, 64)]
    assert np.array_equal(clear.targets, worse.targets)
    difference = np.abs(clear.image.astype(int) - worse.image)
    assert difference.max() > 0 and difference.mean() < 16


def test_box_crop_enlarges_objects(split):
    plain = replace(WITHOUT_AUGMENTATION, mosaic=0.0)
    whole = DetectionDataset(split, 64, plain, augment=True)
    cropped = DetectionDataset(split, 64, replace(plain, box_crop=1.0), augment=True)
    areas = [
        [dataset[ItemKey(epoch, index, 64)].targets[:, 3:].prod(1).mean() for epoch in range(5) for index in range(6)]
        for dataset in (whole, cropped)
    ]
    assert np.mean(areas[1]) > 1.3 * np.mean(areas[0])


def test_crowds_are_excluded_and_images_without_boxes_included(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((50, 50, 3), np.uint8))
    boxes = [[5, 5, 20, 20], [0, 0, 50, 50], [30, 30, 45, 45]]
    samples = [sample(tmp_path / "a.png", boxes, [1, 2, 3], (50, 50), [False, True, False])]
    samples.append(sample(tmp_path / "a.png", [], [], (50, 50)))
    dataset = DetectionDataset(Split("train", samples, ["a"] * 4, [1, 2, 3, 4]), 64)
    assert dataset[ItemKey(0, 0, 64)].targets[:, 0].tolist() == [1, 3]
    assert dataset[ItemKey(0, 1, 64)].targets.shape == (0, 5)
    assert [len(rows) for rows in dataset.boxes] == [2, 0] and dataset.labels[0].tolist() == [1, 3]
    assert len(split_augmented(samples)[ItemKey(0, 1, 64, True)].targets) >= 0


def split_augmented(samples):
    return DetectionDataset(Split("train", samples, ["a"] * 4, [1, 2, 3, 4]), 64, Hyperparameters(), augment=True)


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_unreadable_images_are_replaced(split, cache):
    split.samples[2].path.write_bytes(b"not an image")
    dataset = DetectionDataset(split, 64, Hyperparameters(mosaic=1.0), augment=True, cache=cache)
    for mosaic in (True, False):
        replacement = dataset[ItemKey(0, 2, 64, mosaic)]
        unreadable, again = replacement.replaced, dataset[ItemKey(0, 2, 64, mosaic)]
        assert (
            replacement.index != 2
            and replacement.path == dataset.paths[replacement.index]
            and replacement.path != unreadable.path
        )
        assert unreadable.index == 2 and unreadable.path.endswith("2.png") and "not an image" in unreadable.reason
        assert again.index == replacement.index and np.array_equal(again.image, replacement.image)
    drawn = {dataset[ItemKey(epoch, 2, 64, False)].index for epoch in range(40)}
    assert drawn == {0, 1, 3, 4, 5}  # another image every epoch
    plain = DetectionDataset(split, 64, cache=cache)[ItemKey(0, 2, 64)]
    assert plain == UnreadableItem(2, unreadable.path, unreadable.reason)
    for epoch in range(10):  # as a tile of a mosaic it is drawn again
        item = dataset[ItemKey(epoch, 0, 64, True)]
        assert isinstance(item, Item) and 2 not in item.targets[:, 0]


def test_replacement_of_unreadable_images_is_deterministic(split):
    split.samples[2].path.unlink()
    recipe = Hyperparameters(mosaic=1.0)
    plain, cached = (DetectionDataset(split, 64, recipe, augment=True, cache=cache) for cache in ("none", "ram"))
    for epoch in range(5):
        for index in (1, 2):
            assert np.array_equal(
                plain[ItemKey(epoch, index, 64, True)].image, cached[ItemKey(epoch, index, 64, True)].image
            )


def test_recording_unreadable_images(split):
    dataset = DetectionDataset(split, 64)
    unreadable = [UnreadableItem(index, f"{index}.png", "is empty") for index in range(4)]
    dataset.record_unreadable(unreadable[:3])
    dataset.record_unreadable(unreadable[:3])
    assert dataset.unreadable == {0: "is empty", 1: "is empty", 2: "is empty"}
    with pytest.raises(UserError, match="4 of 6"):
        dataset.record_unreadable(unreadable)


def test_no_images():
    with pytest.raises(UserError, match="val: no images"):
        DetectionDataset(Split("val", [], [], []), 64, label="val")


def test_late_augmentation_is_stronger_in_the_last_epochs(split):
    h = replace(WITHOUT_AUGMENTATION, scale=0.4, translate=0.2, late_augmentation=1.0)
    plain, late = (DetectionDataset(split, 64, recipe, augment=True) for recipe in (replace(h, late_augmentation=0), h))
    plain.epochs = late.epochs = 8
    same = [np.array_equal(plain[ItemKey(e, 0, 64)].image, late[ItemKey(e, 0, 64)].image) for e in range(8)]
    assert same[:4] == [True] * 4 and not any(same[5:])
