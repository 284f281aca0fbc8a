"""BlazeFace of the front camera: published names, the four box outputs of sixteen, known faces."""

import pytest
import torch
from torch.nn import functional

from graftdet.models import build_model
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights


@pytest.fixture
def published(published_file):
    return load_weights(published_file("blazeface.pth"))


def published_state():
    """Random tensors under the published names."""
    torch.manual_seed(0)
    state = {}
    for name, tensor in build_model("blazeface-front.yaml").state_dict().items():
        name = name.removeprefix("model.1.").replace("model.4.classifiers.", "classifier_")
        name = name.replace("model.4.regressors.", "regressor_").replace("r_0", "r_8").replace("r_1.", "r_16.")
        shape = (len(tensor) * 4, *tensor.shape[1:]) if name.startswith("regressor") else tensor.shape
        state[name] = torch.randn(shape) * 0.1
    return state


def forward(state, images):
    """The published model: scores (N,) and outputs (N, 16), by level and number of the box in its cell."""

    def conv(x, name, **options):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def block(x, name, s):
        y, c1 = (functional.pad(x, (0, 2, 0, 2)) if s == 2 else x), x.shape[1]
        y = conv(conv(y, f"{name}.convs.0", stride=s, padding=2 - s, groups=c1), f"{name}.convs.1")
        x = functional.max_pool2d(x, 2) if s == 2 else x
        return functional.relu(y + functional.pad(x, (0, 0, 0, 0, 0, y.shape[1] - c1)))

    x = functional.relu(conv(functional.pad(images * 2 - 1, (1, 2, 1, 2)), "backbone1.0", stride=2))
    for number in range(2, 13):
        x = block(x, f"backbone1.{number}", 2 if number in (4, 7) else 1)
    y = x
    for number in range(5):
        y = block(y, f"backbone2.{number}", 2 if number == 0 else 1)
    rows = [
        conv(maps, f"{kind}_{stride}").unflatten(1, (-1, columns)).permute(0, 1, 3, 4, 2).reshape(-1, columns)
        for kind, columns in (("classifier", 1), ("regressor", 16))
        for maps, stride in ((x, 8), (y, 16))
    ]
    return torch.cat(rows[:2])[:, 0].sigmoid(), torch.cat(rows[2:])


def test_boxes_and_scores_are_those_of_the_published_model(tmp_path):
    state = published_state()
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    weights = load_weights(tmp_path / "a.pth")
    assert (weights.family, weights.names, weights.size, list(weights.unused)) == ("BlazeFace", ["face"], 128, [])
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        boxes, scores = build_from_weights(weights)(images)
        expected, outputs = forward(state, images)
    torch.testing.assert_close(scores[0, :, 0], expected)
    centers = [
        torch.tensor([[(x + 0.5) * s, (y + 0.5) * s] for y in range(64 // s) for x in range(96 // s)]).repeat(number, 1)
        for s, number in ((8, 2), (16, 6))
    ]
    center, half = outputs[:, :2] + torch.cat(centers), outputs[:, 2:4] / 2
    torch.testing.assert_close(boxes[0], torch.cat((center - half, center + half), 1), rtol=1e-4, atol=1e-4)


def test_the_published_file_is_read_whole(published):
    model = build_from_weights(published)
    assert not published.unused and sum(p.numel() for p in model.parameters()) == 92270


def test_the_head_learns_a_box():
    torch.manual_seed(0)
    model = build_model("blazeface-front.yaml").train()
    criterion = model.criterion(None, 128)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    images, targets = torch.rand(2, 3, 64, 64), torch.tensor([[0, 0, 0.4, 0.5, 0.5, 0.4], [1, 0, 0.6, 0.5, 0.25, 0.5]])
    losses = []
    for _ in range(30):
        parts = criterion(model(images), targets)
        assert set(parts) == {"box", "cls"}
        losses.append(sum(parts.values()))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
