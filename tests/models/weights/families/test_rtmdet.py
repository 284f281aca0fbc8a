"""RTMDet: published names and counts, and the outputs of the network as it is published."""

import sys
import types

import pytest
import torch
from torch.nn import functional as F

from graftdet.models import build_model
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError
from tests.models.weights.families.published_network import PublishedNetwork, points

MEAN, STD = torch.tensor([103.53, 116.28, 123.675]), torch.tensor([57.375, 57.12, 58.395])  # B, G, R
SIZES = {"tiny": (0.375, 0.167), "s": (0.5, 0.33)}


class RTMDet(PublishedNetwork):
    """The network of the published config, layer by layer."""

    def __init__(self, size, nc):
        super().__init__(nc)
        self.width, self.depth = SIZES[size]

    def unit(self, x, name, c2, k=1, s=1, groups=1):
        return F.silu(self.bn(self.conv(x, f"{name}.conv", c2, k, s, groups), f"{name}.bn"))

    def csp(self, x, name, c2, count, identity, attention):
        half = c2 // 2
        short, y = self.unit(x, f"{name}.short_conv", half), self.unit(x, f"{name}.main_conv", half)
        for number in range(count):
            block = f"{name}.blocks.{number}"
            z = self.unit(y, f"{block}.conv1", half, 3)
            z = self.unit(z, f"{block}.conv2.depthwise_conv", half, 5, groups=half)
            z = self.unit(z, f"{block}.conv2.pointwise_conv", half)
            y = y + z if identity else z
        joined = torch.cat((y, short), 1)
        if attention:
            gate = self.conv(joined.mean((2, 3), keepdim=True), f"{name}.attention.fc", c2, bias=True)
            joined = joined * (F.relu6(gate + 3) / 6)
        return self.unit(joined, f"{name}.final_conv", c2)

    def backbone(self, x):
        c, maps = int(64 * self.width), []
        for number, (c2, stride) in enumerate(((c // 2, 2), (c // 2, 1), (c, 1))):
            x = self.unit(x, f"backbone.stem.{number}", c2, 3, stride)
        for stage, (wide, number) in enumerate(((128, 3), (256, 6), (512, 6), (1024, 3)), start=1):
            name, c2 = f"backbone.stage{stage}", int(wide * self.width)
            x = self.unit(x, f"{name}.0", c2, 3, 2)
            if stage == 4:
                y = self.unit(x, f"{name}.1.conv1", c2 // 2)
                pools = [F.max_pool2d(y, k, 1, k // 2) for k in (5, 9, 13)]
                x = self.unit(torch.cat((y, *pools), 1), f"{name}.1.conv2", c2)
            last = 2 if stage == 4 else 1
            x = self.csp(x, f"{name}.{last}", c2, max(round(number * self.depth), 1), stage < 4, True)
            maps.append(x)
        return maps[1:]

    def neck(self, maps):
        p3, p4, p5 = maps
        c3, c4, c5 = (x.shape[1] for x in maps)

        def up(x):
            return F.interpolate(x, scale_factor=2)

        def csp(x, part, number, c2):
            return self.csp(x, f"neck.{part}_blocks.{number}", c2, 1, False, False)

        r5 = self.unit(p5, "neck.reduce_layers.0", c4)
        r4 = self.unit(csp(torch.cat((up(r5), p4), 1), "top_down", 0, c4), "neck.reduce_layers.1", c3)
        n3 = csp(torch.cat((up(r4), p3), 1), "top_down", 1, c3)
        n4 = csp(torch.cat((self.unit(n3, "neck.downsamples.0", c3, 3, 2), r4), 1), "bottom_up", 0, c4)
        n5 = csp(torch.cat((self.unit(n4, "neck.downsamples.1", c4, 3, 2), r5), 1), "bottom_up", 1, c5)
        return [self.unit(x, f"neck.out_convs.{level}", c3, 3) for level, x in enumerate((n3, n4, n5))]

    def branch(self, x, name, level):
        """Convolutions that all levels share: the file has each under three names."""
        for number in range(2):
            layer = f"bbox_head.{name}.{level}.{number}"
            first = f"bbox_head.{name}.0.{number}.conv.weight"
            if first in self.state:
                self.state[f"{layer}.conv.weight"] = self.state[first]
            x = self.unit(x, layer, x.shape[1], 3)
        return x

    def __call__(self, bgr):
        """Boxes (1, N, 4) and scores (1, N, nc) of images (1, 3, H, W), BGR in 0..255."""
        maps = self.neck(self.backbone((bgr - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)))
        scores, distances = [], []
        for level, x in enumerate(maps):
            classes = self.branch(x, "cls_convs", level)
            scores.append(self.conv(classes, f"bbox_head.rtm_cls.{level}", self.nc, bias=True, gain=0.2).sigmoid())
            boxes = self.branch(x, "reg_convs", level)
            distances.append(self.conv(boxes, f"bbox_head.rtm_reg.{level}", 4, bias=True) * 2 ** (level + 3))
        corners, _ = points(maps, (8, 16, 32), offset=0)
        scores, distances = (torch.cat([y.flatten(2) for y in part], 2).transpose(1, 2) for part in (scores, distances))
        return torch.cat((corners - distances[..., :2], corners + distances[..., 2:]), 2), scores


@pytest.fixture(scope="module", params=SIZES)
def published(request):
    """(size, network, BGR image, boxes, scores)."""
    torch.manual_seed(0)
    network, bgr = RTMDet(request.param, nc=3), torch.randint(0, 256, (1, 3, 64, 96)).float()
    return request.param, network, bgr, *network(bgr)


@pytest.fixture
def history(monkeypatch):
    """An object as MMEngine saves it beside the tensors."""
    module = types.ModuleType("mmengine.history")
    kind = type("HistoryBuffer", (), {"__module__": module.__name__})
    module.HistoryBuffer = kind
    for name in ("mmengine", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    return kind()


def test_outputs_are_those_of_the_published_network(tmp_path, published, history):
    size, network, bgr, boxes, scores = published
    path = tmp_path / "rtmdet.pth"
    torch.save({"meta": {"epoch": 300}, "state_dict": network.state, "message_hub": {"loss": history}}, path)
    weights = load_weights(path)
    assert (weights.family, weights.model, weights.nc, weights.size) == ("RTMDet", size, 3, 640)
    assert not weights.unused
    model = build_from_weights(weights).eval()
    assert not [name for name in model.state_dict() if name not in weights.state and "num_batches" not in name]
    with torch.no_grad():
        for found_boxes, found_scores in (model(bgr.flip(1) / 255), model.fuse()(bgr.flip(1) / 255)):
            torch.testing.assert_close(found_scores, scores, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(found_boxes, boxes, rtol=1e-4, atol=5e-2)
    assert scores.std() > 1e-2 and boxes.std() > 1


@pytest.mark.parametrize(("size", "count"), [("tiny", 4.90), ("s", 8.89)])
def test_counts_are_the_published_ones(size, count):
    """4.8 (cut off) and 8.89 million are published."""
    assert round(sum(p.numel() for p in build_model(f"rtmdet-{size}.yaml").parameters()) / 1e6, 2) == count


def test_all_levels_train_the_same_convolutions():
    head = build_model("rtmdet-tiny.yaml", nc=2).head
    for branch in (head.cls_convs, head.reg_convs):
        for level in (1, 2):
            assert all(branch[level][i].conv is branch[0][i].conv for i in range(2))
            assert all(branch[level][i].bn is not branch[0][i].bn for i in range(2))


def test_other_models_are_named(tmp_path, published):
    state = dict(published[1].state)
    torch.save(state | {"bbox_head.rtm_kernel.0.weight": torch.zeros(169, 96, 1, 1)}, tmp_path / "ins.pth")
    with pytest.raises(UserError, match=r"ins\.pth: is a model for instance segmentation \(RTMDet-Ins\)"):
        load_weights(tmp_path / "ins.pth")
    state["bbox_head.rtm_cls.0.weight"] = torch.zeros(3, 192, 1, 1)
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(UserError, match=r"m\.pth: is an RTMDet whose head has 192 channels, expected 96 \(tiny\)"):
        load_weights(tmp_path / "m.pth")
