"""A head of another kind than that of the weights: fitted to its boxes and scores."""

import pytest
import torch

from graftdet.models import ModelSpec, build_model
from graftdet.models.distillation.head_imitation import imitate_head
from graftdet.models.weights.transfer import build_from_weights, load_into
from graftdet.models.weights.weights_file import load_weights

NAMES = ["triangle", "circle", "star"]  # the weights know circle, square, triangle


@pytest.fixture
def converted(tiny_yaml, tiny_weights):
    """`converted(head, names)`: a model with another head and the weights of the tiny detector, and that detector."""

    def make(head="AnchorFreeDetect, [nc]", names=NAMES):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            text = tiny_yaml.replace("Detect, [nc, anchors]", head)
            model = build_model(ModelSpec.from_text(text, "converted.yaml"), nc=len(names))
        model.names = list(names)
        file = load_weights(tiny_weights)
        assert 8 not in load_into(model, file).row_matches
        return model, build_from_weights(file)

    return make


def images():
    """Images like those of the statistics of the weights: noise of one color per image."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(16, 3, 1, 1, generator=generator) * torch.rand(16, 1, 64, 64, generator=generator)


@pytest.mark.parametrize("head", ["AnchorFreeDetect, [nc]", "OneToOneDetect, [nc, 8]"])
def test_boxes_and_scores_of_common_classes_are_fitted(converted, head):
    model, original = converted(head)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    result = imitate_head(model, original, [images()[:8], images()[8:]])
    assert result.classes == 2 and result.boxes[1] < 0.9 * result.boxes[0] and result.scores[1] < 0.8 * result.scores[0]
    assert "imitate Detect of the weights" in str(result) and "of the scores of 2 classes" in str(result)
    changed = {name.split(".")[1] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"8"} and torch.equal(random_state, torch.random.get_rng_state())
    assert not original.training and all(p.grad is None for p in model.parameters())


def test_without_common_classes_the_boxes_are_fitted_alone(converted):
    model, original = converted(names=["star"])
    result = imitate_head(model, original, [images()])
    assert result.classes == 0 and result.scores is None and result.boxes[1] < 0.9 * result.boxes[0]
    assert "class outputs start anew" in str(result)


def test_other_levels_are_left_alone(converted):
    model, original = converted()
    original.head.strides = [8.0]
    assert imitate_head(model, original, [images()]) is None
