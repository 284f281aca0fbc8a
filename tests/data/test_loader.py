from dataclasses import replace

import numpy as np
import pytest
import torch

from graftdet.data import loader as loader_module
from graftdet.data.dataset import DetectionDataset, ItemKey
from graftdet.data.formats.dataset_split import Split
from graftdet.data.formats.sample import Sample
from graftdet.data.loader import train_loader, val_loader
from graftdet.data.sampler import BatchSampler, rect_shape, sort_by_aspect
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.images.io import write_image

SHAPES = [(40, 60), (60, 40), (64, 64), (30, 64), (64, 30), (50, 50), (48, 64), (20, 64), (64, 20), (33, 47), (40, 60)]
COUNT = len(SHAPES)


@pytest.fixture
def split(tmp_path):
    rng = np.random.default_rng(0)
    samples = []
    for number, (height, width) in enumerate(SHAPES):
        path = tmp_path / f"{number}.png"
        write_image(path, rng.integers(0, 255, (height, width, 3)).astype(np.uint8))
        boxes = np.array([[2, 3, 15, 18]] * (number % 3), np.float32).reshape(-1, 4)
        labels = np.full(len(boxes), number)
        none = np.zeros(len(boxes))
        samples.append(Sample(path, boxes, labels, none.astype(bool), none, none, f"id{number}", width, height))
    return Split("train", samples, [str(n) for n in range(COUNT)], list(range(COUNT)))


def train_set(split, **options):
    recipe = options.pop("recipe", Hyperparameters(mixup=0.3))
    return DetectionDataset(split, 64, recipe, augment=True, **options)


def drain(loader, epoch=0):
    loader.set_epoch(epoch)
    return [(batch["images"].clone(), batch["targets"].clone(), batch["paths"]) for batch in loader]


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and a[2] == b[2] for a, b in zip(first, second, strict=True)
    )


def test_batch_contents(split):
    loader = val_loader(DetectionDataset(split, 64), 4)
    assert len(loader) == 3 and loader.batch_size == 4
    batches = list(loader)
    assert [len(batch["paths"]) for batch in batches] == [4, 4, 3]
    first = batches[0]
    assert first["images"].shape == (4, 3, 64, 64) and first["images"].dtype == torch.uint8
    assert first["images"].is_contiguous(memory_format=torch.channels_last)
    assert first["targets"].dtype == torch.float32 and first["targets"].shape == (3, 6)
    assert first["targets"][:, 0].tolist() == [1, 2, 2]  # index in the batch
    assert first["targets"][:, 1].tolist() == [1, 2, 2]  # class
    expected = [8.5 / 40, 10.5 / 60, 13 / 40, 15 / 60]  # of image 1, which is 40 wide
    gain, (left, top) = first["gains"][1], first["pads"][1]
    back = first["targets"][0, 2:] * 64
    back = (back - torch.tensor([left, top, 0, 0])) / gain
    assert torch.allclose(back, torch.tensor(expected) * torch.tensor([40, 60, 40, 60]), atol=0.5)
    assert first["image_ids"] == ["id0", "id1", "id2", "id3"] and first["shapes"][0] == (40, 60)
    assert first["indices"] == [0, 1, 2, 3]
    assert set(first) == {"images", "targets", "paths", "image_ids", "gains", "pads", "shapes", "indices"}


def test_every_image_once_per_epoch_in_another_order(split):
    loader = train_loader(train_set(split), 4)
    orders = [[path for batch in drain(loader, epoch) for path in batch[2]] for epoch in (0, 1)]
    assert all(len(set(order)) == COUNT == len(order) for order in orders)
    assert orders[0] != orders[1] and orders[0] != sorted(orders[0])
    steady = train_loader(train_set(split), 4, shuffle=False)
    assert drain(steady)[0][2] == [str(sample.path) for sample in split.samples[:4]]


@pytest.mark.parametrize(("workers", "start_method"), [(1, None), (2, None), (2, "spawn")])
def test_batches_do_not_depend_on_workers(split, workers, start_method):
    single, parallel = (
        train_loader(train_set(split), 4),
        train_loader(train_set(split, cache="ram"), 4, workers, start_method=start_method),
    )
    for epoch in (0, 1, 5):  # workers are persistent
        assert same(drain(single, epoch), drain(parallel, epoch))


def test_resumed_run_gets_the_same_batches(split):
    uninterrupted = train_loader(train_set(split, seed=3), 4)
    history = [drain(uninterrupted, epoch) for epoch in range(3)]
    assert same(drain(train_loader(train_set(split, seed=3), 4), 2), history[2])
    next(iter(uninterrupted))  # an interrupted epoch
    assert same(drain(uninterrupted, 1), history[1])
    assert not same(drain(train_loader(train_set(split, seed=4), 4), 2), history[2])


def test_loading_does_not_use_the_global_generator(split):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    drain(train_loader(train_set(split), 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_close_mosaic(split):
    dataset = train_set(split, recipe=Hyperparameters(close_mosaic=3))
    loader = train_loader(dataset, 4, epochs=10)
    for epoch, on in ((0, True), (6, True), (7, False), (9, False)):
        loader.set_epoch(epoch)
        assert {key.mosaic for keys in loader.batch_sampler for key in keys} == {on}
    assert all(key.mosaic for keys in train_loader(dataset, 4).batch_sampler for key in keys)


def test_multi_scale(split):
    dataset = DetectionDataset(split, 320, Hyperparameters(), augment=True)
    sampler = BatchSampler(dataset, 1, multi_scale=True)
    sizes = []
    for epoch in range(30):
        sampler.set_epoch(epoch)
        sizes += [keys[0].size for keys in sampler]
    assert set(sizes) == set(range(160, 481, 32))
    batch = next(iter(train_loader(dataset, 4, multi_scale=True)))
    assert (
        batch["images"].shape[2]
        == batch["images"].shape[3]
        == next(iter(BatchSampler(dataset, 4, multi_scale=True)))[0].size
    )


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_divide_an_epoch(split, world):
    dataset = train_set(split)
    parts = [list(train_loader(dataset, 2, rank=rank, world_size=world).batch_sampler) for rank in range(world)]
    assert {len(part) for part in parts} == {len(train_loader(dataset, 2, world_size=world))}
    assert len({sum(len(keys) for keys in part) for part in parts}) == 1
    seen = [key.index for part in parts for keys in part for key in keys]
    assert set(seen) == set(range(COUNT)) and len(seen) == -(-COUNT // world) * world
    scaled = [BatchSampler(dataset, 2, multi_scale=True, rank=rank, world_size=2) for rank in (0, 1)]
    assert [keys[0].size for keys in scaled[0]] == [keys[0].size for keys in scaled[1]]


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_ahead_changes_no_batch(split, workers):
    expected = [drain(train_loader(train_set(split), 4), epoch) for epoch in range(3)]
    loader = train_loader(train_set(split), 4, workers)
    assert same(drain(loader, 0), expected[0])
    loader.load_ahead(1)
    assert (loader._ahead is not None) == (workers > 0)
    assert same(drain(loader, 1), expected[1])
    loader.load_ahead(2)
    assert same(drain(loader, 0), expected[0])  # another epoch than that which was begun
    loader.load_ahead(2)
    weights = np.zeros(COUNT)
    weights[3] = 1
    loader.set_epoch(2, weights)
    assert {index for batch in loader for index in batch["indices"]} == {3}
    assert same(drain(loader, 2), expected[2])


def test_image_weights(split):
    loader = train_loader(train_set(split), 4)
    weights = np.zeros(COUNT)
    weights[[2, 5]] = (1, 3)
    drawn = []
    for epoch in range(40):
        loader.set_epoch(epoch, weights)
        keys = [key.index for keys in loader.batch_sampler for key in keys]
        assert len(keys) == COUNT
        drawn += keys
    assert set(drawn) == {2, 5} and 0.65 < np.mean(np.array(drawn) == 5) < 0.85
    loader.set_epoch(0)
    assert len({key.index for keys in loader.batch_sampler for key in keys}) == COUNT


@pytest.mark.parametrize(
    ("image_sizes", "size", "padding", "expected"),
    [
        ([(480, 640)], 640, 0.0, (480, 640)),
        ([(480, 640)], 640, 0.5, (512, 672)),
        ([(480, 640)], 320, 0.5, (256, 352)),
        ([(481, 640)], 640, 0.0, (512, 640)),
        ([(480, 640), (640, 480)], 640, 0.0, (640, 640)),
        ([(300, 600), (320, 320)], 320, 0.0, (320, 320)),
        ([(1, 1000)], 320, 0.0, (32, 320)),
    ],
)
def test_rect_shape(image_sizes, size, padding, expected):
    assert rect_shape(np.array(image_sizes, np.float32), size, 32, padding) == expected


def test_rectangular_validation_has_each_image_once_and_complete(split):
    dataset = DetectionDataset(split, 128, rect=True)
    batches = list(val_loader(dataset, 3))
    assert sorted(index for batch in batches for index in batch["indices"]) == list(range(COUNT))
    assert [index for batch in batches for index in batch["indices"]] == sort_by_aspect(dataset.image_sizes).tolist()
    areas = 0
    for batch in batches:
        height, width = batch["images"].shape[2:]
        assert height % 32 == 0 and width % 32 == 0
        areas += height * width
        for gain, (left, top), shape in zip(batch["gains"], batch["pads"], batch["shapes"], strict=True):
            assert gain == 128 / max(shape)
            assert left + round(shape[1] * gain) <= width and top + round(shape[0] * gain) <= height
    assert areas < 0.9 * len(batches) * 160 * 160  # area of square batches with the same padding


def test_rectangular_training(split):
    loader = train_loader(train_set(split, rect=True), 3)
    shapes = []
    for epoch in (0, 1):
        batches = drain(loader, epoch)
        assert sorted(path for batch in batches for path in batch[2]) == sorted(str(s.path) for s in split.samples)
        shapes.append([tuple(batch[0].shape[2:]) for batch in batches])
    assert shapes[0] != shapes[1] and sorted(shapes[0]) == sorted(shapes[1])
    parts = [list(BatchSampler(loader.dataset, 3, rank=rank, world_size=3)) for rank in range(3)]
    assert {len(part) for part in parts} == {2}
    loader.set_epoch(0, np.eye(COUNT)[4] + np.eye(COUNT)[3])
    assert {key.index for keys in loader.batch_sampler for key in keys} == {3, 4}
    scaled = BatchSampler(loader.dataset, 3, multi_scale=True)
    assert all(side % 32 == 0 for keys in scaled for side in keys[0].shape)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("cache", ["none", "ram"])
def test_unreadable_images_are_replaced_and_reported_once(split, workers, cache, capsys):
    split.samples[4].path.write_bytes(b"text")
    split.samples[6].path.unlink()
    loader = train_loader(train_set(split, cache=cache, label="train"), 4, workers)
    for epoch in (0, 1):
        batches = drain(loader, epoch)
        paths = [path for batch in batches for path in batch[2]]
        assert len(paths) == COUNT and not {str(split.samples[4].path), str(split.samples[6].path)} & set(paths)
        for images, targets, names in batches:
            assert len(images) == len(names)
            assert len(targets) == 0 or targets[:, 0].max() < len(names)
    errors = capsys.readouterr().err
    assert errors.count("train: 2 of 11 images cannot be read, skipped") == 1 and ".png: " in errors
    assert set(loader.dataset.unreadable) == {4, 6}


@pytest.mark.parametrize("rect", [False, True])
def test_processes_take_equally_many_steps_with_unreadable_images(split, rect):
    for number in (2, 4, 7, 9):
        split.samples[number].path.unlink()
    for epoch in range(4):  # a batch with one unreadable image is a step in every process
        parts = [drain(train_loader(train_set(split, rect=rect), 1, rank=rank, world_size=2), epoch) for rank in (0, 1)]
        assert [len(part) for part in parts] == [6, 6]
        assert all(len(images) == len(names) == 1 for part in parts for images, _, names in part)


def test_batches_without_a_readable_image_are_skipped(split):
    split.samples[4].path.unlink()
    assert len(list(val_loader(DetectionDataset(split, 64), 1))) == COUNT - 1


@pytest.mark.parametrize("workers", [0, 2])
def test_more_than_half_unreadable_raises(split, workers):
    for sample in split.samples[:6]:
        sample.path.write_bytes(b"")
    with pytest.raises(UserError, match="6 of 11 images cannot be read.*is empty"):
        drain(train_loader(train_set(split), 4, workers))


def test_small_shared_memory_gives_the_same_batches(split, monkeypatch):
    expected = drain(train_loader(train_set(split), 4))
    monkeypatch.setattr(loader_module, "_free_shared_memory", lambda: 1000)
    loader = train_loader(train_set(split), 4, 2)
    assert loader._loader.collate_fn is loader_module.collate_arrays
    assert same(drain(loader), expected)


def test_recipe_without_mosaic(split):
    dataset = train_set(split, recipe=replace(Hyperparameters(), mosaic=0.0))
    item = dataset[ItemKey(0, 2, 64, True)]
    assert set(item.targets[:, 0].tolist()) <= {2.0}


def test_images_of_a_batch_are_not_copied(split):
    split.samples[4].path.unlink()
    dataset = train_set(split)
    keys = [ItemKey(3, index, 64, True) for index in (2, 0, 9)]
    items = dataset.__getitems__(keys)
    for key, item in zip(keys, items, strict=True):
        alone = dataset[key]
        assert np.array_equal(item.image, alone.image) and np.array_equal(item.targets, alone.targets)
    images = loader_module.collate(items)["images"]
    assert images.data_ptr() == items[0].image.ctypes.data  # nothing was copied
    filled = loader_module.collate(dataset.__getitems__([keys[0], ItemKey(3, 4, 64, True), keys[2]]))
    assert len(filled["images"]) == 3 and torch.equal(filled["images"][[0, 2]], images[[0, 2]])
    assert [lost.index for lost in filled["unreadable"]] == [4] != filled["indices"][1:2]
    plain = DetectionDataset(split, 64)
    holed = loader_module.collate(plain.__getitems__([ItemKey(0, index, 64) for index in (2, 4, 9)]))
    assert holed["indices"] == [2, 9] and torch.equal(
        holed["images"][1], torch.from_numpy(plain[ItemKey(0, 9, 64)].image)
    )
    assert torch.equal(loader_module.collate(items[:2])["images"], images[:2])
