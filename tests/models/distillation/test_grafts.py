"""Grafted rows: which rows they replace, imitation before training, distillation in the first epochs."""

import pytest
import torch

from graftdet.models import ModelSpec, build_model
from graftdet.models.distillation.distiller import set_up_distillation
from graftdet.models.distillation.grafts import check_grafts, load_original, relative_error
from graftdet.models.distillation.imitation import imitate_rows, start_grafts
from graftdet.models.distillation.row_outputs import row_inputs, row_outputs
from graftdet.models.weights.transfer import TransferReport, load_into
from graftdet.models.weights.weights_file import WeightsFile, load_weights
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters

RECIPE = Hyperparameters(warmup_epochs=0)
TARGETS = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.3], [1, 2, 0.3, 0.6, 0.3, 0.3]])


def images(count=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")


def graft_of(yaml, file, seed=3):
    """The tiny detector with other modules in place of its C3 rows, with the weights of `file`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(ModelSpec.from_text(yaml.replace("C3,", "C3Ghost,"), "graft.yaml"))
    return model, load_into(model, file)


@pytest.fixture
def file(tiny_weights):
    return load_weights(tiny_weights)


def errors(model, original, batch):
    """Error of each grafted row on the outputs that its own rows before it give."""
    model.eval()
    with torch.no_grad():
        own, theirs = row_outputs(model, batch, original.rows), row_outputs(original.model, batch, [2, 7])
    return {row: relative_error(own[row], theirs[old]).item() for row, old in original.rows.items()}


def test_rows_replace_those_at_their_position_with_the_same_shape(tiny_yaml, file):
    model, report = graft_of(tiny_yaml, file)
    original = load_original(file, model)
    assert original.rows == {2: 2, 7: 7} and set(report.row_matches).isdisjoint(original.rows)
    assert not original.model.training and not any(p.requires_grad for p in original.model.parameters())
    inserted = tiny_yaml.replace(
        "  - [-1, 1, C3, [16]]\n", "  - [-1, 1, SELayer, [4]]\n  - [-1, 1, C3Ghost, [16]]\n"
    ).replace("[[-1, 3], 1, Concat", "[[-1, 4], 1, Concat")
    inserted = inserted.replace("[[7, 4], 1, Detect", "[[8, 5], 1, Detect")
    model = build_model(ModelSpec.from_text(inserted, "graft.yaml"))
    assert load_original(file, model).rows == {3: 2}  # the last of both new rows


def test_rows_give_what_they_read_and_compute(tiny_yaml, file):
    model, _ = graft_of(tiny_yaml, file)
    model.eval()
    read, computed = row_inputs(model, images(), [2, 6]), row_outputs(model, images(), [1, 5, 3, 6])
    assert torch.equal(read[2], computed[1]) and [x.shape[1] for x in read[6]] == [24, 16]
    assert torch.equal(read[6][0], computed[5]) and torch.equal(torch.cat(read[6], 1), computed[6])
    observed = {6: None, 2: None}
    model.head_inputs(images(), observed)
    assert torch.equal(observed[2], read[2]) and torch.equal(observed[6][1], read[6][1])


def test_an_initialized_row_imitates_the_replaced_one(tiny_yaml, file):
    model, _ = graft_of(tiny_yaml, file)
    original = load_original(file, model)
    before, others = errors(model, original, images(seed=5)), model.model[1].conv.weight.clone()
    random_state = torch.random.get_rng_state()
    result = imitate_rows(model, original, [images(16), images(16, seed=2)])
    after = errors(model, original, images(seed=5))
    assert all(after[row] < 0.85 * before[row] for row in original.rows), (before, after)
    assert result.errors.keys() == original.rows.keys() and "2 like row 2 of the weights" in str(result)
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert torch.equal(model.model[1].conv.weight, others)
    assert all(p.grad is None for p in model.parameters())


def test_distillation_trains_the_grafted_rows_alone_until_its_epochs_are_over(tiny_yaml, file):
    model, _ = graft_of(tiny_yaml, file)
    original = load_original(file, model)
    original.epochs = 2
    student, criterion = set_up_distillation(model, model.criterion(RECIPE, 64), original, RECIPE)
    assert list(student.state_dict()) == list(model.state_dict())
    criterion.begin_epoch(1, 5)
    losses = criterion(student.train()(images(2)), TARGETS)
    losses["distill_grafts"].backward()
    trained = {name.split(".")[1] for name, p in student.named_parameters() if p.grad is not None}
    assert trained == {"2", "7"}
    criterion.begin_epoch(2, 5)
    assert list(criterion(student(images(2)), TARGETS)) == ["box", "obj", "cls"]


def test_grafted_rows_become_similar_to_the_replaced_ones(tiny_yaml, file):
    model, _ = graft_of(tiny_yaml, file)
    original = load_original(file, model)
    original.epochs = 1
    before = errors(model, original, images())
    student, criterion = set_up_distillation(model, model.criterion(RECIPE, 64), original, RECIPE)
    optimizer = torch.optim.Adam([p for row in original.rows for p in model.model[row].parameters()], 0.01)
    criterion.begin_epoch(0, 1)
    for _ in range(40):
        optimizer.zero_grad()
        criterion(student.train()(images()), TARGETS)["distill_grafts"].backward()
        optimizer.step()
    after = errors(model, original, images())
    assert all(after[row] < 0.7 * before[row] for row in before), (before, after)


def test_the_original_is_loaded_only_where_it_is_needed(tiny_yaml, file, tiny_weights):
    model, report = graft_of(tiny_yaml, file)
    arguments = (model, str(tiny_weights), TransferReport())
    for imitate, head in ((False, False), (True, True)):  # of a resumed run nothing is known
        assert start_grafts(*arguments, list, imitate=imitate, convert_head=head, epochs=0) is None
    assert start_grafts(*arguments, list, imitate=False, convert_head=False, epochs=3).epochs == 3
    weight = model.model[2].cv1.conv.weight.clone()
    report.fraction = 0.6
    options = {"imitate": True, "convert_head": True, "epochs": 0}
    assert start_grafts(model, str(tiny_weights), report, lambda: [images()], **options) is None
    assert not torch.equal(model.model[2].cv1.conv.weight, weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda yaml: yaml, "all rows of the model continue rows of the file"),
        (
            lambda yaml: yaml.replace("C3, [16]]", "C3Ghost, [24]]").replace("C3, [16, ", "C3Ghost, [24, "),
            "no new row of the model replaces a row of the file with an output of the same shape",
        ),
        (None, "holds weights without their YAML"),
    ],
    ids=["none replaced", "shapes", "no structure"],
)
def test_originals_that_do_not_fit_are_reported(tiny_yaml, tiny_weights, change, message):
    model = build_model(ModelSpec.from_text(change(tiny_yaml) if change else tiny_yaml, "graft.yaml"))
    file = load_weights(tiny_weights)
    if change is None:
        file = WeightsFile(file.path, "state dict", file.state)
    with pytest.raises(UserError, match=message):
        check_grafts(model, load_original(file, model))


def test_no_gain_is_an_error(tiny_yaml, file):
    model, _ = graft_of(tiny_yaml, file)
    with pytest.raises(UserError, match="distill_grafts is 0"):
        set_up_distillation(model, None, load_original(file, model), Hyperparameters(distill_grafts=0))
