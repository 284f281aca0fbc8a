"""Fixtures of model tests: random predictions and ground-truth boxes, blocks with random batch norm, commands."""

import pytest

from graftdet.models.backends import loading


class Scene:
    """Random predictions for B images on cells of several strides, and ground-truth boxes, some tiny, flat or outside."""

    def __init__(self, seed, counts=(4, 0, 7), nc=3, size=(96, 128), strides=(8, 16, 32)):
        import torch

        from graftdet.models.losses.points import level_points
        from graftdet.models.losses.targets import unpack_targets

        make = torch.Generator().manual_seed(seed)
        self.height, self.width = size
        self.points, self.strides = level_points(
            [(size[0] // s, size[1] // s) for s in strides], strides, torch.zeros(1)
        )
        shape = (len(counts), len(self.points))
        self.scores = torch.rand(*shape, nc, generator=make) ** 3
        reach = torch.rand(*shape, 4, generator=make) * 4 * self.strides[:, None]
        self.boxes = torch.cat((self.points - reach[..., :2], self.points + reach[..., 2:]), -1)
        image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        boxes = torch.rand(len(image), 4, generator=make) * torch.tensor([1.0, 1.0, 0.6, 0.6])
        if len(boxes) > 4:
            boxes[0] = torch.tensor([16 / size[1], 16 / size[0], 0.02, 0.03])  # smaller than a cell, between four
            boxes[1, 2] = 0  # without area
            boxes[2, :2] = torch.tensor([1.7, -0.9])  # outside
            boxes[-1] = boxes[-2]  # duplicated
        labels = torch.randint(nc, (len(image),), generator=make)
        if len(boxes) > 4:
            labels[-1] = labels[-2]
        self.targets = torch.cat((image[:, None].float(), labels[:, None].float(), boxes), 1)  # (M, 6)
        self.truth = unpack_targets(self.targets, *size)

    def assigned(self, assigner):
        """{(image, point): (index of its box, quality)}, as plain numbers."""
        matches = assigner(self.scores, self.boxes, self.points, self.strides, self.truth)
        rows = zip(
            self.truth.image[matches.box].tolist(),
            matches.point.tolist(),
            matches.box.tolist(),
            matches.quality.tolist(),
        )
        wanted = {(image, point): (box, quality) for image, point, box, quality in rows}
        assert len(wanted) == len(matches.box)  # no point twice
        return wanted


@pytest.fixture(scope="session")
def scene():
    """`scene(seed, counts, nc, size, strides)` builds a `Scene`."""
    return Scene


@pytest.fixture(scope="session")
def randomized():
    """`randomized(module)` is the module in eval mode, with random batch norm parameters from seed 0."""
    import torch
    from torch import nn

    def change(module):
        torch.manual_seed(0)
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                nn.init.uniform_(m.weight, 0.7, 1.3)
                nn.init.normal_(m.bias, std=0.2)
                m.running_mean.normal_(0, 0.1)
                m.running_var.uniform_(0.7, 1.3)
        return module.eval()

    return change


@pytest.fixture(scope="session")
def block_of(randomized):
    """`block_of(name, *args)` is the block of that name, from seed 0, `randomized`."""
    import torch

    from graftdet.models import BLOCKS

    def build(name, *args):
        torch.manual_seed(0)
        return randomized(BLOCKS[name](*args))

    return build


@pytest.fixture
def command():
    """`command(*args)` runs `python -m models` with these arguments in this process; returns its exit status."""
    from graftdet.models.__main__ import main
    from graftdet.utils import cli

    def call(*args):
        try:
            cli.run(lambda: main([str(arg) for arg in args]))
        except SystemExit as stop:
            return stop.code
        return 0

    return call


@pytest.fixture(scope="module")
def model(tiny_weights):
    """The tiny detector in eval mode."""
    from graftdet.models.weights.transfer import build_from_weights
    from graftdet.models.weights.weights_file import load_weights

    return build_from_weights(load_weights(tiny_weights))


@pytest.fixture(scope="module")
def export_both(model, tmp_path_factory):
    """`export_both(backend)`: {dynamic: (options, path)} of a file of one size and of a dynamic one."""
    from graftdet.models.backends import ExportOptions

    def export(backend):
        folder, both = tmp_path_factory.mktemp("modèle"), {}
        for dynamic in (False, True):
            options = ExportOptions(size=(64, 96), dynamic=dynamic)
            both[dynamic] = options, backend.export(model, folder / f"tiny {dynamic}{backend.suffix}", options)
        return both

    return export


@pytest.fixture(autouse=True)
def without_trial(request, monkeypatch):
    """Files that tests of backends have just exported are opened without a trial, which `limits` tests."""
    if "backends" in request.path.parts and "limits" not in request.path.parts:
        monkeypatch.setattr(loading, "try_out", lambda path, backend: None)
