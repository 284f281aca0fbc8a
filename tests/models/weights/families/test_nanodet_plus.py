"""NanoDet-Plus: published names and counts, and the outputs of the network as it is published."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from graftdet.models import build_model
from graftdet.models.weights.families import FAMILIES
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError
from tests.models.weights.families.published_network import PublishedNetwork, points

STAGES = {2: 4, 3: 8, 4: 4}
WIDTHS = {"m": ((116, 232, 464), 96), "m-1.5x": ((176, 352, 704), 128)}
MEAN, STD = torch.tensor([103.53, 116.28, 123.675]), torch.tensor([57.375, 57.12, 58.395])  # B, G, R


def leaky(x):
    return F.leaky_relu(x, 0.1)


class NanoDetPlus(PublishedNetwork):
    """The network of the published config, layer by layer."""

    def __init__(self, size, nc):
        super().__init__(nc)
        self.widths, self.neck_width = WIDTHS[size]

    def sequence(self, x, name, layers):
        """Layers (number, c2, k, s, groups, act), each with the batch norm behind it."""
        for number, c2, k, s, groups, act in layers:
            x = self.bn(self.conv(x, f"{name}.{number}", c2, k, s, groups), f"{name}.{number + 1}")
            x = leaky(x) if act else x
        return x

    def unit(self, x, name, c2, s):
        half, c1 = c2 // 2, x.shape[1]
        if s == 2:
            first = self.sequence(x, f"{name}.branch1", [(0, c1, 3, 2, c1, False), (2, half, 1, 1, 1, True)])
            second = x
        else:
            first, second = x.chunk(2, 1)
        layers = [(0, half, 1, 1, 1, True), (3, half, 3, s, half, False), (5, half, 1, 1, 1, True)]
        joined = torch.cat((first, self.sequence(second, f"{name}.branch2", layers)), 1)
        order = [j for i in range(half) for j in (i, half + i)]  # channel shuffle
        return joined[:, order]

    def backbone(self, x):
        x, maps = self.sequence(x, "backbone.conv1", [(0, 24, 3, 2, 1, True)]), []
        x = F.max_pool2d(x, 3, 2, 1)
        for (stage, units), c2 in zip(STAGES.items(), self.widths, strict=True):
            for number in range(units):
                x = self.unit(x, f"backbone.stage{stage}.{number}", c2, 2 if number == 0 else 1)
            maps.append(x)
        return maps

    def ghost_module(self, x, name, c2, act):
        x = self.sequence(x, f"{name}.primary_conv", [(0, c2 // 2, 1, 1, 1, act)])
        return torch.cat((x, self.sequence(x, f"{name}.cheap_operation", [(0, c2 // 2, 3, 1, c2 // 2, act)])), 1)

    def ghost_block(self, x, name):
        name, c = f"{name}.blocks.0", self.neck_width
        y = self.ghost_module(self.ghost_module(x, f"{name}.ghost1", c, True), f"{name}.ghost2", c, False)
        layers = [(0, x.shape[1], 5, 1, x.shape[1], False), (2, c, 1, 1, 1, False)]
        return y + self.sequence(x, f"{name}.shortcut", layers)

    def separable(self, x, name, s=1):
        c = x.shape[1]
        x = leaky(self.bn(self.conv(x, f"{name}.depthwise", c, 5, s, c), f"{name}.dwnorm"))
        return leaky(self.bn(self.conv(x, f"{name}.pointwise", c), f"{name}.pwnorm"))

    def neck(self, maps):
        reduced = []
        for level, x in enumerate(maps):
            name = f"fpn.reduce_layers.{level}"
            reduced.append(leaky(self.bn(self.conv(x, f"{name}.conv", self.neck_width), f"{name}.bn")))

        def up(x):
            return F.interpolate(x, scale_factor=2, mode="bilinear")

        p3, p4, p5 = reduced
        m4 = self.ghost_block(torch.cat((up(p5), p4), 1), "fpn.top_down_blocks.0")
        n3 = self.ghost_block(torch.cat((up(m4), p3), 1), "fpn.top_down_blocks.1")
        n4 = torch.cat((self.separable(n3, "fpn.downsamples.0", 2), m4), 1)
        n4 = self.ghost_block(n4, "fpn.bottom_up_blocks.0")
        n5 = torch.cat((self.separable(n4, "fpn.downsamples.1", 2), p5), 1)
        n5 = self.ghost_block(n5, "fpn.bottom_up_blocks.1")
        n6 = self.separable(p5, "fpn.extra_lvl_in_conv.0", 2) + self.separable(n5, "fpn.extra_lvl_out_conv.0", 2)
        return n3, n4, n5, n6

    def __call__(self, bgr):
        """Boxes (1, N, 4) and scores (1, N, nc) of images (1, 3, H, W), BGR in 0..255."""
        raw = []
        images = (bgr - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
        for level, x in enumerate(self.neck(self.backbone(images))):
            for number in range(2):
                x = self.separable(x, f"head.cls_convs.{level}.{number}")
            raw.append(self.conv(x, f"head.gfl_cls.{level}", self.nc + 32, bias=True, gain=0.2))
        corners, strides = points(raw, (8, 16, 32, 64), offset=0)
        scores, bins = torch.cat([y.flatten(2) for y in raw], 2).transpose(1, 2).split((self.nc, 32), 2)
        distances = (bins.unflatten(2, (4, 8)).softmax(3) * torch.arange(8.0)).sum(3) * strides
        return torch.cat((corners - distances[..., :2], corners + distances[..., 2:]), 2), scores.sigmoid()


@pytest.fixture(scope="module", params=WIDTHS)
def published(request):
    """(size, network, BGR image, boxes, scores)."""
    torch.manual_seed(0)
    network, bgr = NanoDetPlus(request.param, nc=3), torch.randint(0, 256, (1, 3, 128, 128)).float()
    return request.param, network, bgr, *network(bgr)


def test_outputs_are_those_of_the_published_network(tmp_path, published):
    size, network, bgr, boxes, scores = published
    state = {f"model.{name}": torch.zeros_like(tensor) for name, tensor in network.state.items()}
    state |= {f"avg_model.{name}": tensor for name, tensor in network.state.items()}  # the average is used
    auxiliary = {"aux_fpn.reduce_layers.0.conv.weight": (96, 116, 1, 1), "aux_head.gfl_cls.bias": (112,)}
    auxiliary |= {"head.distribution_project.project": (8,), "head.project": (8,)}
    state |= {f"avg_model.{name}": torch.zeros(shape) for name, shape in auxiliary.items()}
    path = tmp_path / "nanodet-plus-m_320_checkpoint.ckpt"
    torch.save({"state_dict": state, "epoch": 3}, path)
    weights = load_weights(path)
    assert (weights.family, weights.model, weights.nc, weights.size) == ("NanoDet-Plus", size, 3, 320)
    assert sorted(weights.unused) == sorted(auxiliary)
    model = build_from_weights(weights).eval()
    assert not [name for name in model.state_dict() if name not in weights.state and "num_batches" not in name]
    with torch.no_grad():
        found_boxes, found_scores = model(bgr.flip(1) / 255)
    assert scores.std() > 1e-2 and boxes.std() > 1
    torch.testing.assert_close(found_scores, scores, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found_boxes, boxes, rtol=1e-4, atol=5e-2)


def test_a_safetensors_file_of_the_published_names_is_converted(tmp_path, published):
    size, network, _, _, _ = published
    save_file(network.state, tmp_path / "a.safetensors", {"format": "pt", "names": '["a", "b", "c"]'})
    weights = load_weights(tmp_path / "a.safetensors")
    assert (weights.family, weights.model, weights.names) == ("NanoDet-Plus", size, ["a", "b", "c"])
    assert build_from_weights(weights).nc == 3


def test_the_order_of_layers_is_the_published_one(published):
    _, network, _, _, _ = published
    family, state = FAMILIES["NanoDetPlus"](), network.state
    names = family.layer_order([tuple(state[f"{name}.weight"].shape) for name in network.convolutions])
    assert names == network.convolutions
    found = {f"{family.batch_norm_of(name)}.bias" for name in names if family.batch_norm_of(name)}
    assert found == {name for name in state if name.endswith(".bias") and "gfl_cls" not in name}


@pytest.mark.parametrize(("size", "count"), [("m", 1.17), ("m-1.5x", 2.44)])
def test_counts_are_the_published_ones(size, count):
    model = build_model(f"nanodet-plus-{size}.yaml")
    norms = sum(p.numel() for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    millions = (sum(p.numel() for p in model.parameters()) - norms) / 1e6
    assert round(millions, 2) == count  # published without those of batch norms


def test_another_width_is_named(tmp_path, published):
    state = dict(published[1].state)
    state["fpn.reduce_layers.2.conv.weight"] = torch.zeros(64, 464, 1, 1)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: is a NanoDet-Plus whose neck has 64 channels, expected 96 or 128"):
        load_weights(tmp_path / "a.pth")
