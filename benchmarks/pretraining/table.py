"""The trainings behind the pretrained weights: which model, from which start, how long, with which seed."""

from dataclasses import dataclass

TRAINED_ON, LICENSE = "synthetic contours", "Apache-2.0"
FINETUNING = "finetune-synthetic.yaml"  # the recipe for training from the weights


@dataclass(frozen=True)
class Stage:
    """One training run. The first stage starts from random weights or those of another model, later ones from the last.

    Attributes:
        epochs: number of epochs; an epoch is `epoch_length` images of the data YAML.
        seed: seed of the initial weights and of the images.
        start: weights of the first stage: "none", the name of another entry of the table, or "NAME:N" for the first N
            stages of that entry.
        data: dataset YAML.
    """

    epochs: int
    seed: int = 0
    start: str = "none"
    data: str = "contours.yaml"


@dataclass(frozen=True)
class Pretraining:
    """How one file of configs/weights is trained.

    Attributes:
        cfg: model YAML.
        stages: training runs, one after the other.
        limits: what the weights are not good for.
        hyp: hyperparameters YAML.
        img: side of the images [pixels].
        batch_size: images per batch.
    """

    cfg: str
    stages: tuple[Stage, ...]
    limits: str = "Pretrained on synthetic images only: they detect nothing useful before fine-tuning."
    hyp: str = "pretrain.yaml"
    img: int = 320
    batch_size: int = 16


TABLE = {
    "graft-n": Pretraining("graft-n.yaml", (Stage(epochs=8), Stage(epochs=14, seed=1, data="contours200.yaml"))),
    "graft-p": Pretraining("graft-p.yaml", (Stage(epochs=4, start="graft-n:1"),)),
    "picodet-esnet-s": Pretraining("picodet-esnet-s.yaml", (Stage(epochs=8),)),
}
