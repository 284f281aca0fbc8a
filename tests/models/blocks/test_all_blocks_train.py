"""Every block is in a model YAML that trains: over 20 steps on one small batch its loss falls.

A new family adds its YAMLs to `TRAINABLE`, with arguments of row 0 instead of the file's where the whole network is too
heavy for a test.
"""

from pathlib import Path

import pytest
import torch
import yaml

from graftdet.models import BLOCKS, build_model
from graftdet.utils.config import CONFIGS
from graftdet.utils.hyperparameters import Hyperparameters

TRAINABLE = {  # YAML -> None, or arguments of its first row
    "mobilenet_v1": [0.5],
    "mobilenet_v2": None,
    "mobilenet_v3_small": None,
    "mobilenet_v3_large": None,
    "mobilenet-blocks": None,
    "mobilenext": [0.5],
    "sandglass-blocks": None,
    "shufflenet_v1": None,
    "shufflenet_v2": None,
    "shufflenet-blocks": None,
    "inception_v1": [0.25],
    "inception_v3": [0.125],
    "inception-blocks": None,
    "inception_resnet": None,
    "xception": [0.125],
    "xception-blocks": None,
    "edo": None,
    "blazeface": None,
    "blaze-blocks": None,
    "mobilevit_xs": None,
    "mobilevit-blocks": None,
    "ghostnet": [0.5, [4, 6, 9]],
    "ghost-blocks": None,
    "dynamic-ghost": None,
    "yolov5n-C3_GhostModule": None,
    "picodet-esnet-s": None,
    "PicoDet-s": None,
    "v5Lite-e": None,
    "v5Lite-c": None,
    "v5Lite-g": None,
    "lite-mobilev3": None,
    "lite-mbconv": None,
    "attention-blocks": None,
    "slim-neck": None,
    "bifpn-blocks": None,
    "efficientnetv2-blocks": None,
    "graft-blocks": None,
    "variant-blocks": None,
    "yolov5-blocks": None,
    "yolov5n-free": None,
    "yolov5n-nms-free": None,
    "picodet": None,
    "graft-n": None,
    "graft-p": None,
    "gelan-blocks": None,
    "yolov7-blocks": None,
    "yolov4-blocks": None,
    "face-blocks": None,
    "hgnet-blocks": None,
    "attention-rows": None,
    "yolox-blocks": None,
    "yolox-nano": None,
    "nanodet-plus-m": None,
    "rtmdet-tiny": None,
    "yolov9-t": None,
    "blazeface-front": None,
    "picodet-lcnet-xs": None,
    "composite-blocks": None,
}
TARGETS = [[0, 1, 0.5, 0.5, 0.4, 0.3], [0, 2, 0.3, 0.6, 0.2, 0.2], [1, 0, 0.4, 0.4, 0.5, 0.6]]
SIZE, STEPS = 64, 20


def model_of(name: str, first_args):
    values = yaml.safe_load((Path(CONFIGS) / "models" / f"{name}.yaml").read_text(encoding="utf-8"))
    if first_args is not None:
        values["backbone"][0][3] = first_args
    return build_model(values, nc=3)


def test_every_block_is_used_by_a_trainable_yaml():
    used = set()
    for name in TRAINABLE:
        values = yaml.safe_load((Path(CONFIGS) / "models" / f"{name}.yaml").read_text(encoding="utf-8"))
        used |= {BLOCKS[row[2]] for row in values["backbone"] + values["head"] if row[2] in BLOCKS}
    own = {
        block_name: cls for block_name, cls in BLOCKS.items() if cls.__module__.startswith("graftdet.models.blocks.")
    }  # no plugins
    assert not {block_name for block_name, cls in own.items() if cls not in used}


@pytest.mark.parametrize("name", TRAINABLE)
def test_loss_decreases_and_every_parameter_has_a_gradient(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_of(name, TRAINABLE[name]).train()
        images = torch.rand(2, 3, SIZE, SIZE)
    criterion = model.criterion(Hyperparameters(), SIZE)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.002)
    losses = []
    for _ in range(STEPS):
        loss = sum(criterion(model(images), torch.tensor(TARGETS)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) / 3 < 0.85 * losses[0], losses
    unreached = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unreached
