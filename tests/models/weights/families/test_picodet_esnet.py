"""PicoDet with ESNet: published names and counts, and the outputs of the network as it is published."""

import pickle

import pytest
import torch
from torch.nn import functional as F

from graftdet.models import build_model
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError
from tests.models.weights.families.published_network import PublishedNetwork, points

SMALL = (0.875, 0.5, 0.5, 0.5, 0.625, 0.5, 0.625, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
LARGE = (0.875, 0.5, 1.0, 0.625, 0.5, 0.75, 0.625, 0.625, 0.5, 0.625, 1.0, 0.625, 0.75)
SIZES = {"s": (SMALL, (96, 192, 384), 96, 2), "m": (LARGE, (128, 256, 512), 128, 4)}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class PicoDet(PublishedNetwork):
    """The network of the published configuration, layer by layer, in Paddle's names."""

    def __init__(self, size, nc):
        super().__init__(nc)
        self.ratios, self.widths, self.neck_width, self.stacked = SIZES[size]

    def unit(self, x, name, c2, k=1, s=1, groups=1, act=F.hardswish, parts=("conv", "bn")):
        x = self.conv(x, f"{name}.{parts[0]}", c2, k, s, groups)
        return act(self.bn(x, f"{name}.{parts[1]}", "_mean", "_variance"))

    def layer(self, x, name, c2, k=1, s=1, groups=1, act=F.hardswish):
        return self.unit(x, name, c2, k, s, groups, act, ("_conv", "_batch_norm"))

    def gate(self, x, name):
        y = F.relu(self.conv(x.mean((2, 3), keepdim=True), f"{name}._se.conv1", x.shape[1] // 4, bias=True))
        return x * (F.relu6(self.conv(y, f"{name}._se.conv2", x.shape[1], bias=True) + 3) / 6)

    def block(self, x, name, c2, ratio, s):
        half, inner = c2 // 2, max(8, int(c2 * ratio + 4) // 8 * 8) // 2
        if s == 2:
            c1 = x.shape[1]
            side = self.layer(x, f"{name}._conv_dw_1", c1, 3, 2, c1, act=lambda z: z)
            side = self.layer(side, f"{name}._conv_linear_1", half)
            y = self.layer(x, f"{name}._conv_pw_2", inner)
            y = self.gate(self.layer(y, f"{name}._conv_dw_2", inner, 3, 2, inner, act=lambda z: z), name)
            y = torch.cat((side, self.layer(y, f"{name}._conv_linear_2", half)), 1)
            return self.layer(self.layer(y, f"{name}._conv_dw_mv1", c2, 3, groups=c2), f"{name}._conv_pw_mv1", c2)
        passed, y = x.chunk(2, 1)
        y = self.layer(y, f"{name}._conv_pw", inner)
        y = torch.cat((y, self.layer(y, f"{name}._conv_dw", inner, 3, groups=inner, act=lambda z: z)), 1)
        joined = torch.cat((passed, self.layer(self.gate(y, name), f"{name}._conv_linear", half)), 1)
        return joined[:, [j for i in range(half) for j in (i, half + i)]]  # channel shuffle

    def backbone(self, x):
        x, maps, number = F.max_pool2d(self.layer(x, "backbone._conv1", 24, 3, 2), 3, 2, 1), [], 0
        for stage, (c2, blocks) in enumerate(zip(self.widths, (3, 7, 3), strict=True), start=2):
            for i in range(1, blocks + 1):
                x = self.block(x, f"backbone.{stage}_{i}", c2, self.ratios[number], 2 if i == 1 else 1)
                number += 1
            maps.append(x)
        return maps

    def separable(self, x, name, s=1):
        x = self.unit(x, name, x.shape[1], 5, s, x.shape[1], parts=("dwconv", "bn1"))
        return self.unit(x, name, x.shape[1], parts=("pwconv", "bn2"))

    def csp(self, a, b, name):
        x, half = torch.cat((a, b), 1), self.neck_width // 2
        short = self.unit(x, f"{name}.short_conv", half)
        y = self.unit(self.unit(x, f"{name}.main_conv", half), f"{name}.blocks.0.conv1", half)
        y = self.separable(y, f"{name}.blocks.0.conv2")
        return self.unit(torch.cat((y, short), 1), f"{name}.final_conv", self.neck_width)

    def neck(self, maps):
        p3, p4, p5 = (self.unit(x, f"neck.conv_t.convs.{i}", self.neck_width) for i, x in enumerate(maps))
        m4 = self.csp(F.interpolate(p5, scale_factor=2), p4, "neck.top_down_blocks.0")
        n3 = self.csp(F.interpolate(m4, scale_factor=2), p3, "neck.top_down_blocks.1")
        n4 = self.csp(self.separable(n3, "neck.downsamples.0", 2), m4, "neck.bottom_up_blocks.0")
        n5 = self.csp(self.separable(n4, "neck.downsamples.1", 2), p5, "neck.bottom_up_blocks.1")
        return n3, n4, n5, self.separable(p5, "neck.first_top_conv", 2) + self.separable(n5, "neck.second_top_conv", 2)

    def __call__(self, images):
        """Boxes (1, N, 4) and scores (1, N, nc) of images (1, 3, H, W), RGB in 0..1."""
        raw = []
        for level, x in enumerate(self.neck(self.backbone((images - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)))):
            c = x.shape[1]
            for i in range(self.stacked):
                x = self.unit(x, f"head.conv_feat.cls_conv_dw{level}.{i}", c, 5, 1, c, parts=("conv", "norm"))
                x = self.unit(x, f"head.conv_feat.cls_conv_pw{level}.{i}", c, parts=("conv", "norm"))
            raw.append(self.conv(x, f"head.head_cls{level}", self.nc + 32, bias=True, gain=0.2))
        centers, strides = points(raw, (8, 16, 32, 64), offset=0.5)
        scores, bins = torch.cat([y.flatten(2) for y in raw], 2).transpose(1, 2).split((self.nc, 32), 2)
        distances = (bins.unflatten(2, (4, 8)).softmax(3) * torch.arange(8.0)).sum(3) * strides
        return torch.cat((centers - distances[..., :2], centers + distances[..., 2:]), 2), scores.sigmoid()


def write(path, state):
    path.write_bytes(pickle.dumps({name: tensor.numpy() for name, tensor in state.items()}, 4))
    return path


@pytest.mark.parametrize("size", SIZES)
def test_outputs_are_those_of_the_published_network(tmp_path, size):
    torch.manual_seed(0)
    network, images = PicoDet(size, nc=3), torch.rand(1, 3, 128, 128)
    boxes, scores = network(images)
    weights = load_weights(write(tmp_path / f"picodet_{size}_416_coco.pdparams", network.state))
    assert (weights.family, weights.model, weights.nc, weights.size) == ("PicoDet", f"esnet-{size}", 3, 416)
    assert not weights.unused
    model = build_from_weights(weights).eval()
    assert not [name for name in model.state_dict() if name not in weights.state and "num_batches" not in name]
    with torch.no_grad():
        found_boxes, found_scores = model(images)
    assert scores.std() > 1e-2 and boxes.std() > 1
    torch.testing.assert_close(found_scores, scores, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found_boxes, boxes, rtol=1e-3, atol=0.1)


@pytest.mark.parametrize(("size", "count"), [("s", 0.99), ("m", 2.15), ("l", 3.30)])
def test_counts_are_the_published_ones(size, count):
    millions = sum(p.numel() for p in build_model(f"picodet-esnet-{size}.yaml").parameters()) / 1e6
    assert int(millions * 100) / 100 == count  # published in millions, two digits, cut off


def test_other_forms_are_named(tmp_path):
    network = PicoDet("s", nc=1)
    network(torch.rand(1, 3, 64, 64))
    branch = {"head.head_reg0.bias": torch.zeros(32)}
    with pytest.raises(UserError, match=r"two\.pdparams: is a PicoDet with a second branch for boxes"):
        load_weights(write(tmp_path / "two.pdparams", network.state | branch))
    neck = {"neck.conv_t.convs.0.conv.weight": torch.zeros(64, 96, 1, 1)}
    with pytest.raises(UserError, match=r"is a PicoDet whose neck has 64 channels, expected 96 \(s\), 128 \(m\)"):
        load_weights(write(tmp_path / "w.pdparams", network.state | neck))
