"""PicoDet with LCNet: published names and counts, and the outputs of the network as it is published."""

import pickle

import pytest
import torch
from torch.nn import functional as F

from graftdet.models import build_model
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

WIDTHS = {"xs": (8, 16, 24, 48, 88, 176), "s": (16, 24, 48, 96, 192, 384)}  # of LCNet, as published
NECK = 96


class Published:
    """The tensors of PicoDet xs or s under PaddleDetection's names, and its network as functions of them."""

    def __init__(self, size, nc):
        self.widths, self.nc, self.state = WIDTHS[size], nc, {}

    def conv(self, x, name, c2, k=1, s=1, depthwise=False, bn=".bn", suffix=".conv", act=F.hardswish):
        """Convolution, batch norm and activation; the tensors are made when they are first needed."""
        shape = (c2, 1 if depthwise else x.shape[1], k, k)
        weight = self.tensor(f"{name}{suffix}.weight", shape, 1.5 / (shape[1] * k * k) ** 0.5)
        y = F.conv2d(x, weight, None, s, k // 2, groups=c2 if depthwise else 1)
        statistics = [self.tensor(f"{name}{bn}.{kind}", (c2,)) for kind in ("_mean", "_variance", "weight", "bias")]
        return act(F.batch_norm(y, *statistics))

    def tensor(self, name, shape, scale=None):
        if name not in self.state:
            self.state[name] = torch.randn(shape) * scale if scale else torch.rand(shape) + 0.1
        return self.state[name]

    def linear(self, x, name, c2):
        weight = self.tensor(f"{name}.weight", (c2, x.shape[1], 1, 1), x.shape[1] ** -0.5)
        return F.conv2d(x, weight, self.tensor(f"{name}.bias", (c2,)))

    def separable(self, x, name, c2, k, s=1, se=False):
        x = self.conv(x, f"{name}.dw_conv", x.shape[1], k, s, depthwise=True)
        if se:
            gate = F.relu(self.linear(x.mean((2, 3), keepdim=True), f"{name}.se.conv1", x.shape[1] // 4))
            x = x * F.hardsigmoid(self.linear(gate, f"{name}.se.conv2", x.shape[1]))
        return self.conv(x, f"{name}.pw_conv", c2)

    def dp_module(self, x, name, c2, s=1, last=F.hardswish):
        x = self.conv(x, name, c2, 5, s, depthwise=c2 > 1, suffix=".dwconv", bn=".bn1")
        return self.conv(x, name, c2, suffix=".pwconv", bn=".bn2", act=last)

    def backbone(self, x):
        w, maps = self.widths, []
        x = self.conv(x, "backbone.conv1", w[0], 3, 2)
        for stage, (c2, blocks, k) in enumerate(zip(w[1:], (1, 2, 2, 6, 2), (3, 3, 3, 5, 5), strict=True), start=2):
            for i in range(blocks):
                kernel = 3 if stage == 5 and i == 0 else k
                stride = 2 if i == 0 and stage > 2 else 1
                x = self.separable(x, f"backbone.blocks{stage}.{i}", c2, kernel, stride, se=stage == 6)
            maps.append(x)
        return maps[2:]

    def two(self, a, b, name):
        x = self.separable(torch.cat((a, b), 1), f"{name}.0", 2 * NECK, 5)
        return self.separable(x, f"{name}.1", NECK, 5)

    def neck(self, maps):
        p3, p4, p5 = (self.conv(x, f"neck.conv_t.convs.{i}", NECK) for i, x in enumerate(maps))
        up = {"scale_factor": 2, "mode": "nearest"}
        m4 = self.two(F.interpolate(p5, **up), p4, "neck.top_down_blocks.0")
        n3 = self.two(F.interpolate(m4, **up), p3, "neck.top_down_blocks.1")
        n4 = self.two(self.dp_module(n3, "neck.downsamples.0", NECK, 2), m4, "neck.bottom_up_blocks.0")
        n5 = self.two(self.dp_module(n4, "neck.downsamples.1", NECK, 2), p5, "neck.bottom_up_blocks.1")
        first = self.dp_module(p5, "neck.first_top_conv", NECK, 2)
        return n3, n4, n5, first + self.dp_module(n5, "neck.second_top_conv", NECK, 2)

    def head(self, x, level):
        """Scores (B, nc, H, W) and distances in cells (B, 4, H, W)."""
        for i in range(2):
            for kind, k in (("dw", 5), ("pw", 1)):
                name = f"head.conv_feat.cls_conv_{kind}{level}.{i}"
                x = self.conv(x, name, NECK, k, depthwise=kind == "dw", bn=".norm")
        gate = self.linear(x.mean((2, 3), keepdim=True), f"head.conv_feat.se.{level}.fc", NECK).sigmoid()
        y = self.conv(x * gate, f"head.conv_feat.se.{level}.conv", NECK, bn=".norm")
        align = self.dp_module(x, f"head.cls_align.{level}", 1, last=lambda z: z).sigmoid()
        scores = (self.linear(y, f"head.head_cls_list.{level}", self.nc).sigmoid() * align + 1e-9).sqrt()
        bins = self.linear(y, f"head.head_reg_list.{level}", 32).unflatten(1, (4, 8)).softmax(2)
        return scores, (bins * torch.arange(8.0).view(8, 1, 1)).sum(2)

    def __call__(self, images):
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        maps = self.neck(self.backbone((images - mean) / std))
        scores, boxes = [], []
        for level, x in enumerate(maps):
            stride, (score, distances) = 2 ** (level + 3), self.head(x, level)
            y, x = torch.meshgrid(*(torch.arange(n) + 0.5 for n in score.shape[2:]), indexing="ij")
            ends = (x - distances[:, 0], y - distances[:, 1], x + distances[:, 2], y + distances[:, 3])
            boxes.append(torch.stack(ends, -1).flatten(1, 2) * stride)
            scores.append(score.flatten(2).transpose(1, 2))
        return torch.cat(boxes, 1), torch.cat(scores, 1)


@pytest.mark.parametrize("size", WIDTHS)
def test_outputs_are_those_of_the_published_network(tmp_path, size):
    torch.manual_seed(0)
    published, images = Published(size, nc=3), torch.rand(1, 3, 128, 128)
    boxes, scores = published(images)
    content = {name: tensor.numpy() for name, tensor in published.state.items()}
    for level in range(4):  # published under two names, and tensors that detection does not need
        content[f"head.head_cls{level}.bias"] = content[f"head.head_cls_list.{level}.bias"]
        content[f"head.p{level + 3}_feat.scale_reg"] = content["backbone.conv1.bn._mean"][:1]
    path = tmp_path / "picodet.pdparams"
    path.write_bytes(pickle.dumps(content, 4))
    weights = load_weights(path)
    assert (weights.family, weights.model, weights.nc, weights.size) == ("PicoDet", size, 3, 320)
    assert weights.unused == [f"head.p{level}_feat.scale_reg" for level in (3, 4, 5, 6)]
    model = build_from_weights(weights).eval()
    assert not [name for name in model.state_dict() if name not in weights.state and "num_batches" not in name]
    with torch.no_grad():
        found_boxes, found_scores = model(images)
    assert scores.std() > 1e-3 and boxes.std() > 1
    torch.testing.assert_close(found_scores, scores, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found_boxes, boxes, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(("size", "count"), [("xs", 0.70), ("s", 1.18), ("m", 3.46), ("l", 5.80)])
def test_counts_are_the_published_ones(size, count):
    millions = sum(p.numel() for p in build_model(f"picodet-lcnet-{size}.yaml").parameters()) / 1e6
    assert int(millions * 100) / 100 == count  # published in millions, two digits, rounded down


def test_an_unknown_width_is_named(tmp_path):
    published = Published("xs", nc=1)
    published.widths = (12, *published.widths[1:])
    published(torch.rand(1, 3, 64, 64))
    torch.save(published.state, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"first convolution has 12 outputs, expected one of 8, 16, 24, 32"):
        load_weights(tmp_path / "x.pth")
