"""Merged batch norms: restoring their statistics changes train mode, not eval mode."""

import torch
from torch import nn

from graftdet.models import ModelSpec, build_model
from graftdet.models.weights.families.batch_norms import restore_batch_norms


def test_train_mode_computes_what_eval_mode_does_after_restoring(tiny_yaml):
    torch.manual_seed(0)
    model = build_model(ModelSpec.from_text(tiny_yaml, "tiny.yaml"))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):  # identities with a bias
            layer.running_var.fill_(1 - layer.eps)
            layer.bias.data.uniform_(-1, 1)
    images = torch.rand(8, 3, 64, 64)
    loaded = [name for name in model.state_dict() if not name.startswith("model.7.")]
    untouched = {name: tensor.clone() for name, tensor in model.model[7].state_dict().items()}

    def outputs(training):
        with torch.no_grad():
            raw = model.train(training).raw_outputs(images)
        return torch.cat([maps.flatten() for maps in raw])

    before = outputs(False)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    distance = (outputs(True) - before).abs().mean()
    model.load_state_dict(state)
    count = restore_batch_norms(model.train(), loaded, [images])
    assert model.training and count == sum(
        isinstance(layer, nn.BatchNorm2d) for row in range(9) if row != 7 for layer in model.model[row].modules()
    )
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in model.model[7].state_dict().items())
    torch.testing.assert_close(outputs(False), before, rtol=1e-4, atol=1e-5)
    restore_batch_norms(model, list(model.state_dict()), [images])
    torch.testing.assert_close(outputs(False), before, rtol=1e-4, atol=1e-5)
    assert (outputs(True) - before).abs().mean() < 0.05 * distance
