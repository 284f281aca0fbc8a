"""YOLOv9 of MultimediaTechLab: published names, and the outputs of the network as it is published."""

import pytest
import torch
from torch.nn import functional as F

from graftdet.models import build_model
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError
from tests.models.weights.families.published_network import PublishedNetwork, points

WIDTHS = {"t": (16, 32, 64, 96, 128, 48, 64), "s": (32, 64, 128, 192, 256, 96, 128)}


class YOLOv9(PublishedNetwork):
    """The network of the published configuration, layer by layer, and its auxiliary branch as names."""

    eps = 1e-3

    def unit(self, x, name, c2, k=1, s=1, groups=1, act=F.silu):
        return act(self.bn(self.conv(x, f"{name}.conv", c2, k, s, groups), f"{name}.bn"))

    def elan(self, x, name, c):
        first, second = self.unit(x, f"{name}.conv1", c).chunk(2, 1)
        third = self.unit(second, f"{name}.conv2", c // 2, 3)
        return self.unit(
            torch.cat((first, second, third, self.unit(third, f"{name}.conv3", c // 2, 3)), 1), f"{name}.conv4", c
        )

    def csp(self, x, name, c):
        half = c // 2
        y = self.unit(x, f"{name}.conv1", half)
        for number in range(3):
            block = f"{name}.bottleneck.{number}"
            large, small = (
                self.unit(y, f"{block}.conv1.conv{i}", half, k, act=lambda z: z) for i, k in ((1, 3), (2, 1))
            )
            y = y + self.unit(F.silu(large + small), f"{block}.conv2", half, 3)
        return self.unit(torch.cat((y, self.unit(x, f"{name}.conv2", half)), 1), f"{name}.conv3", c)

    def rep_elan(self, x, name, c):
        parts = list(self.unit(x, f"{name}.conv1", c).chunk(2, 1))
        for part in ("conv2", "conv3"):
            y = self.csp(parts[-1], f"{name}.{part}.0", c // 2)
            parts.append(self.unit(y, f"{name}.{part}.1", c // 2, 3))
        return self.unit(torch.cat(parts, 1), f"{name}.conv4", c)

    def down(self, x, name, c):
        return self.unit(F.avg_pool2d(x, 2, 1), f"{name}.conv", c, 3, 2)

    def spp(self, x, name, c):
        parts = [self.unit(x, f"{name}.conv1", c // 2)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self.unit(torch.cat(parts, 1), f"{name}.conv5", c)

    def features(self, x, widths):
        c1, c2, c3, c4, c5, d4, d5 = widths

        def up(x, y):
            return torch.cat((F.interpolate(x, scale_factor=2), y), 1)

        x = self.elan(self.unit(self.unit(x, "0", c1, 3, 2), "1", c2, 3, 2), "2", c2)
        b3 = self.rep_elan(self.down(x, "3", c3), "4", c3)
        b4 = self.rep_elan(self.down(b3, "5", c4), "6", c4)
        b5 = self.rep_elan(self.down(b4, "7", c5), "8", c5)
        n5 = self.spp(b5, "9", c5)
        n4 = self.rep_elan(up(n5, b4), "12", c4)
        p3 = self.rep_elan(up(n4, b3), "15", c3)
        p4 = self.rep_elan(torch.cat((self.down(p3, "16", d4), n4), 1), "18", c4)
        return p3, p4, self.rep_elan(torch.cat((self.down(p4, "19", d5), n5), 1), "21", c5)

    def head(self, x, level, class_width):
        """Scores (1, N, nc) and distances (1, N, 4) in strides."""
        outputs = []
        for kind, width, count, groups in (("class", class_width, self.nc, 1), ("anchor", 64, 64, 4)):
            name = f"22.heads.{level}.{kind}_conv"
            y = self.unit(self.unit(x, f"{name}.0", width, 3), f"{name}.1", width, 3, groups=groups)
            y = self.conv(y, f"{name}.2", count, groups=groups, bias=True, gain=0.3)
            outputs.append(y.flatten(2).transpose(1, 2))
        bins = self.tensor(f"22.heads.{level}.anc2vec.anc2vec.weight", (1, 16, 1, 1, 1)).copy_(
            torch.arange(16.0).view(1, 16, 1, 1, 1)
        )
        return outputs[0].sigmoid(), (outputs[1].unflatten(2, (4, 16)).softmax(3) * bins.flatten()).sum(3)

    def __call__(self, images, size, class_width):
        maps = self.features(images, WIDTHS[size])
        scores, distances = zip(*(self.head(x, level, class_width) for level, x in enumerate(maps)), strict=True)
        centers, strides = points(maps, (8, 16, 32), offset=0.5)
        distances = torch.cat(distances, 1) * strides
        boxes = torch.cat((centers - distances[..., :2], centers + distances[..., 2:]), 2)
        self.state |= {
            "23.conv1.conv.weight": torch.zeros(64, 128, 1, 1),
            "30.heads.0.class_conv.2.bias": torch.zeros(3),
        }
        return boxes, torch.cat(scores, 1)


@pytest.mark.parametrize(
    ("size", "class_width", "prefix"), [("t", 128, ""), ("s", 128, "ema.model."), ("t", 64, "model.")]
)
def test_outputs_are_those_of_the_published_network(tmp_path, size, class_width, prefix):
    torch.manual_seed(0)
    network, images = YOLOv9(nc=3), torch.rand(1, 3, 64, 96)
    boxes, scores = network(images, size, class_width)
    path = tmp_path / f"v9-{size}.pt"
    torch.save({f"{prefix}{name}": tensor for name, tensor in network.state.items()}, path)
    weights = load_weights(path)
    assert (weights.family, weights.model, weights.nc, weights.size) == ("YOLOv9 (MIT)", size, 3, 640)
    vectors = [f"22.heads.{level}.anc2vec.anc2vec.weight" for level in range(3)]
    assert list(weights.unused) == [*vectors, "23.conv1.conv.weight", "30.heads.0.class_conv.2.bias"]
    model = build_from_weights(weights).eval()
    assert not [name for name in model.state_dict() if name not in weights.state and "num_batches" not in name]
    with torch.no_grad():
        for found_boxes, found_scores in (model(images), model.fuse()(images)):
            torch.testing.assert_close(found_scores, scores, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(found_boxes, boxes, rtol=1e-3, atol=0.2)
    assert scores.std() > 1e-2 and boxes.std() > 1


def test_count_of_s_is_the_published_one():
    """7.1 million without the auxiliary branch, re-parameterized (Wang et al., YOLOv9, 2024, table 1)."""
    model = build_model("yolov9-s.yaml").eval().fuse()
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 7.1


def test_another_size_is_named(tmp_path):
    torch.save({"22.heads.0.anchor_conv.0.conv.weight": torch.zeros(64, 256, 3, 3)}, tmp_path / "v9-c.pt")
    with pytest.raises(UserError, match=r"v9-c\.pt: is a YOLOv9 of another size, expected v9-t or v9-s"):
        load_weights(tmp_path / "v9-c.pt")
