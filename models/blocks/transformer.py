"""Attention over the positions of a map (Vaswani et al., Attention Is All You Need, 2017)."""

from torch import Tensor, nn

from graftdet.models.blocks.conv import Conv


class TransformerLayer(nn.Module):
    """Self-attention and two linear layers, each with a shortcut, without layer norm: (P, B, c) -> (P, B, c)."""

    def __init__(self, c, num_heads):
        super().__init__()
        if c % num_heads:
            raise ValueError(f"{num_heads} attention heads need a width divisible by {num_heads}, got {c}")
        self.q = nn.Linear(c, c, bias=False)
        self.k = nn.Linear(c, c, bias=False)
        self.v = nn.Linear(c, c, bias=False)
        self.ma = nn.MultiheadAttention(embed_dim=c, num_heads=num_heads)
        self.fc1 = nn.Linear(c, c, bias=False)
        self.fc2 = nn.Linear(c, c, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.ma(self.q(x), self.k(x), self.v(x), need_weights=False)[0] + x
        return self.fc2(self.fc1(x)) + x


class TransformerBlock(nn.Module):
    """Positions of a map as a sequence through `num_layers` layers: (B, c1, H, W) -> (B, c2, H, W).

    A learned linear map of the input stands in for a position embedding (a table in Dosovitskiy et al., 2021).
    """

    def __init__(self, c1, c2, num_heads, num_layers):
        super().__init__()
        self.conv = Conv(c1, c2) if c1 != c2 else None
        self.linear = nn.Linear(c2, c2)
        self.tr = nn.Sequential(*(TransformerLayer(c2, num_heads) for _ in range(num_layers)))

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            x = self.conv(x)
        b, c, h, w = x.shape
        sequence = x.flatten(2).permute(2, 0, 1)  # (H*W, B, c)
        return self.tr(sequence + self.linear(sequence)).permute(1, 2, 0).reshape(b, c, h, w)
