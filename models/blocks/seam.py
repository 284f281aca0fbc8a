"""Attention for occluded objects (Yu et al., YOLO-FaceV2: A Scale and Occlusion Aware Face Detector, 2022)."""

from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.argument_ranges import POSITIVE_INT
from graftdet.models.blocks.constructor_checks import check_same_width, reduced_width


class _ResidualDepthwise(nn.Module):
    """Depthwise k x k convolution, activation and batch norm with a shortcut: (B, c, H, W) -> the same."""

    def __init__(self, c, k, act):
        super().__init__()
        self.fn = nn.Sequential(nn.Conv2d(c, c, k, padding=k // 2, groups=c), act(), nn.BatchNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(x)


def _separable(c: int, k: int, act: type[nn.Module]) -> nn.Sequential:
    """Depthwise convolution with a shortcut, then a 1x1 convolution: (B, c, H, W) -> the same."""
    return nn.Sequential(_ResidualDepthwise(c, k, act), nn.Conv2d(c, c, 1), act(), nn.BatchNorm2d(c))


def _perceptron(c: int, reduction: int) -> nn.Sequential:
    """Channel means (B, c) to weights (B, c) from 0 to 1."""
    hidden = reduced_width(c, reduction)
    first = nn.Linear(c, hidden, bias=False)
    return nn.Sequential(first, nn.ReLU(inplace=True), nn.Linear(hidden, c, bias=False), nn.Sigmoid())


@BLOCKS.register(rule="stack", arguments={"n": POSITIVE_INT, "reduction": POSITIVE_INT})
class SEAM(nn.Module):
    """Channels weighted by exp of a perceptron of their means behind n depthwise separable convolutions.

    (B, c1, H, W) -> the same. The weights are between 1 and e. The row's number stacks whole blocks.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        n: number of depthwise separable convolutions, given in the row.
        reduction: c1 / reduction channels inside the perceptron.

    Source:
        Yu et al., YOLO-FaceV2, 2022, section 3.4 (separated and enhancement attention module), figure 4.

    Example:
        [-1, 1, SEAM, [64, 1, 16]]
    """

    def __init__(self, c1, c2=None, n=1, reduction=16):
        super().__init__()
        check_same_width(c1, c2, "reduction: 16")
        self.DCovN = nn.Sequential(*(_separable(c1, 3, nn.GELU) for _ in range(n)))
        self.fc = _perceptron(c1, reduction)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.fc(self.DCovN(x).mean((2, 3))).exp()
        return x * weights[:, :, None, None]


@BLOCKS.register(rule="stack", arguments={"depth": POSITIVE_INT, "kernel_size": POSITIVE_INT})
class MultiSEAM(nn.Module):
    """SEAM on patches of three sizes: the means of all of them and of the map itself are averaged.

    (B, c1, H, W) -> the same. The row's number stacks whole blocks.

    Args:
        c1: input channels.
        c2: output channels, equal to c1; may be omitted.
        depth: number of depthwise separable convolutions per patch size, given in the row.
        kernel_size: odd kernel size of the depthwise convolutions.
        patch_size: list of patch sizes in cells of the map.
        reduction: c1 / reduction channels inside the perceptron.

    Source:
        Yu et al., YOLO-FaceV2, 2022, section 3.4 (channel and spatial mixing module), figure 4. Maps are padded by half
        a patch, so that a map smaller than a patch is accepted.

    Example:
        [-1, 1, MultiSEAM, [64, 1, 3, [6, 7, 8], 16]]
    """

    def __init__(self, c1, c2=None, depth=1, kernel_size=3, patch_size=(3, 5, 7), reduction=16):
        super().__init__()
        check_same_width(c1, c2, "depth: 1")
        self.DCovN = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c1, c1, patch, patch, patch // 2),
                nn.SiLU(),
                nn.BatchNorm2d(c1),
                *(_separable(c1, kernel_size, nn.SiLU) for _ in range(depth)),
            )
            for patch in patch_size
        )
        self.fc = _perceptron(c1, reduction)

    def forward(self, x: Tensor) -> Tensor:
        means = [x.mean((2, 3)), *(m(x).mean((2, 3)) for m in self.DCovN)]
        weights = self.fc(sum(means[1:], means[0]) / len(means)).exp()
        return x * weights[:, :, None, None]
