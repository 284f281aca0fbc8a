"""Networks of torchvision and timm, where they are installed, into rows: their maps are computed again."""

import pytest
import torch
from torch import nn

from graftdet.models import build_model
from graftdet.models.weights.backbones.row_transfer import load_into_row
from graftdet.models.weights.weights_file import WeightsFile

NETWORKS = [  # row, package, network, whether names agree
    (["MobileNetV2", [1.0]], "torchvision", "mobilenet_v2", True),
    (["MobileNetV2", [1.0]], "timm", "mobilenetv2_100", False),
    (["MobileNetV3", ["small"]], "torchvision", "mobilenet_v3_small", True),
    (["MobileNetV3", ["large"]], "timm", "mobilenetv3_large_100", False),
    (["ShuffleNetV2", [1.0]], "torchvision", "shufflenet_v2_x1_0", True),
    (["GhostNet", [1.0, [4, 6, 8]]], "timm", "ghostnet_100", True),
    (["LCNet", [0.5]], "timm", "lcnet_050", False),
    (["MobileViT", ["xs"]], "timm", "mobilevit_xs", True),
]


def network_of(package, name):
    """The network in eval mode with random weights and statistics."""
    module = pytest.importorskip(package)
    torch.manual_seed(0)
    net = module.create_model(name, pretrained=False) if package == "timm" else getattr(module.models, name)()
    for batch_norm in net.modules():
        if isinstance(batch_norm, nn.BatchNorm2d):
            nn.init.normal_(batch_norm.running_mean, std=0.1)
            nn.init.uniform_(batch_norm.running_var, 0.5, 1.5)
            nn.init.uniform_(batch_norm.weight, 0.7, 1.3)
    return net.eval()


@pytest.mark.parametrize(("row", "package", "name", "by_name"), NETWORKS)
@torch.no_grad()
def test_maps_are_those_of_the_publisher(row, package, name, by_name):
    net = network_of(package, name)
    head = [[[-1], 1, "Detect", ["nc", "anchors"]]]
    rows = [[-1, 1, *row], [0, 1, "Index", [2]]]
    model = build_model({"nc": 2, "anchors": 3, "backbone": rows, "head": head}).eval()
    report = load_into_row(model, 0, WeightsFile("x.pth", "state dict", net.state_dict()))
    assert report.fraction == 1 and report.by_structure != by_name
    images, published = torch.rand(1, 3, 256, 256), []
    for module in net.modules():
        module.register_forward_hook(lambda _, inputs, output: published.append(output))
    net(images)
    for maps in model.model[0](images):
        same_shape = [y for y in published if isinstance(y, torch.Tensor) and y.shape == maps.shape]
        assert min((y - maps).abs().max() for y in same_shape) < 1e-4 * maps.abs().max()
