"""A row that is new in a trained model begins by handing its map on, so that the model detects before it learns again."""

import copy

import torch
from graftdet.models.graph.shape_inference import evaluating
from graftdet.models.spec.row import IMAGE
from torch import nn

SIZE, PICTURES = 128, 12  # of the pictures that its maps are taken from
MOST_CELLS = 24  # on a side of those maps
STEPS, RATE = 150, 0.02


def fit_new_rows(model, new: list[int]) -> dict[int, float]:
    """Train each of the rows `new` of a `DetectionModel`, alone and in place, to give what it reads.

    Rows that join, have no weights, or give another shape than they read are left as they are. The maps are those of
    the rows before on pictures of noise; the random state is as it was afterwards. Returns row -> what is lost, the
    mean squared difference as a share of the map's variance, for the rows that came nearer than they were.
    """
    lost = {}
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        for index in new:
            row, layer = model.spec.rows[index], model.model[index]
            if row.joined or layer is model.head or not any(p.requires_grad for p in layer.parameters()):
                continue
            before = model.shapes[row.sources[0]] if row.sources[0] != IMAGE else None
            if before is None or model.shapes[index] != before:
                continue
            state, training = copy.deepcopy(layer.state_dict()), layer.training
            try:
                share = _fit(layer, _map_before(model, index))
            except Exception:  # a stranger's block need not train on maps this small
                share = None
            layer.train(training)
            if share is None:
                layer.load_state_dict(state)
            else:
                lost[index] = share
    return lost


def _map_before(model, index: int) -> torch.Tensor:
    """What row `index` reads for pictures of coarse and fine noise, (PICTURES, c, h, w)."""
    step = max(model.size_multiple, 1)
    side = -(-SIZE // step) * step
    coarse = nn.functional.interpolate(torch.rand(PICTURES, model.channels, 6, 6), (side, side), mode="bilinear")
    images = (0.8 * coarse + 0.2 * torch.rand(PICTURES, model.channels, side, side)).to(next(model.parameters()))
    outputs: list = []
    with torch.no_grad(), evaluating(model):
        for row, layer in zip(model.spec.rows[:index], model.model, strict=False):
            maps = [images if s == IMAGE else outputs[s] for s in row.sources]
            outputs.append(layer(maps if row.joined else maps[0]))
    return outputs[model.spec.rows[index].sources[0]][..., :MOST_CELLS, :MOST_CELLS].contiguous()


def _fit(layer: nn.Module, x: torch.Tensor) -> float | None:
    """Train `layer` to give `x` for `x`; None where that does not bring it nearer than it was."""
    scale = x.var().clamp(min=1e-12)
    norms = [m for m in layer.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]

    def share() -> float:
        with torch.no_grad(), evaluating(layer):
            return float((layer(x.clone()) - x).square().mean() / scale)

    first = share()
    optimizer = torch.optim.Adam([p for p in layer.parameters() if p.requires_grad], RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    layer.train()
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss = (layer(x.clone()) - x).square().mean() / scale
        loss.backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad(set_to_none=True)
    for norm in norms:  # the statistics of exactly these maps
        norm.momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        layer(x.clone())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    last = share()
    return last if last < first else None
