import pytest
import torch

from graftdet.models import ModelSpec, build_model
from graftdet.models.inference.validation_losses import ValidationLosses
from graftdet.utils.hyperparameters import load_hyperparameters

TARGETS = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.4], [1, 2, 0.3, 0.3, 0.2, 0.3]])


def model_with(head, text):
    model = build_model(
        ModelSpec.from_text(text.replace("[[7, 4], 1, Detect, [nc, anchors]]", head), "tiny.yaml"), nc=3
    )
    return model.eval()


HEADS = [
    "[[7, 4], 1, Detect, [nc, anchors]]",
    "[[7, 4], 1, AnchorFreeDetect, [nc]]",
    "[[7, 4], 1, OneToOneDetect, [nc]]",
    "[[7, 4, 3, 4], 1, IAuxDetect, [nc, anchors]]",
]


@pytest.mark.parametrize("head", HEADS)
def test_detections_are_those_of_the_model_and_losses_those_of_its_criterion(head, tiny_yaml):
    torch.manual_seed(0)
    model, images = model_with(head, tiny_yaml), torch.rand(2, 3, 64, 64)
    criterion = model.criterion(load_hyperparameters("default.yaml"), 64)
    with torch.no_grad():
        (boxes, scores), losses = ValidationLosses(criterion)(model, images, TARGETS)
        expected_boxes, expected_scores = model(images)
        assert torch.equal(boxes, expected_boxes) and torch.equal(scores, expected_scores)
        model.head.training = True  # the layers stay in eval mode: batch norms use their running statistics
        expected = criterion(model.raw_outputs(images), TARGETS)
    assert losses.keys() == expected.keys() and all(torch.equal(losses[name], expected[name]) for name in losses)
