"""Distillation: pairs of heads, the effect in a few steps, resumed runs, and teachers that are refused."""

import numpy as np
import pytest
import torch

from graftdet.models import ModelSpec, build_model
from graftdet.models.distillation.distiller import DistillationLoss, Student, load_teacher, set_up_distillation
from graftdet.utils.checkpoint import save_checkpoint
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.memory_format import prefer_channels_last
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.optim import Stepper, make_optimizer
from graftdet.utils.training.run_state import EarlyStopping, RunState
from graftdet.utils.training.schedule import Schedule
from graftdet.utils.training.trainer import train_one_epoch

NAMES = ["circle", "square", "triangle"]
HEADS = [
    "Detect, [nc, anchors]",
    "AnchorFreeDetect, [nc, 8]",
    "AnchorFreeDetect, [nc, 16]",
    "OneToOneDetect, [nc, 8]",
    "PicoHead, [nc]",
]
CPU = torch.device("cpu")


def text(tiny_yaml, head=HEADS[0], width=1.0):
    return f"width_multiple: {width}\n" + tiny_yaml.replace(HEADS[0], head)


def model_of(yaml, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(ModelSpec.from_text(yaml, "tiny.yaml"))
        model.names = list(NAMES)
        return model


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory, tiny_yaml):
    """`teacher_file(head)`: a checkpoint of twice the width, with scores far from those of a new model."""
    folder, made = tmp_path_factory.mktemp("teachers"), {}

    def make(head=HEADS[0], names=NAMES, yaml=None):
        key = (head, *names, yaml)
        if key not in made:
            yaml = yaml or text(tiny_yaml, head, 2.0)
            model = model_of(yaml, seed=7)
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(7)
                for _ in range(10):
                    model.train().raw_outputs(make_images())
                for name, parameter in model.head.named_parameters():
                    if parameter.ndim == 1 and "bn" not in name:
                        parameter += 2 * torch.randn_like(parameter) + 2
            content = {"yaml": yaml, "names": list(names), "nc": len(names), "model": model.state_dict()}
            made[key] = save_checkpoint(folder / f"teacher {len(made)}.pt", content)
        return made[key]

    return make


def make_images(count=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 64, 64, generator=generator)


def batches(count):
    for number in range(count):
        images = (make_images(2, number % 4) * 255).to(torch.uint8)
        targets = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.3], [1, 2, 0.3, 0.6, 0.3, 0.3]])
        yield {"images": images, "targets": targets, "paths": ["a", "b"]}


def run_of(model, teacher, h, steps=16, **options):
    """Train `model` for some steps on the same four batches; gives the state and the mean losses of two epochs."""
    layout = prefer_channels_last(model, CPU)
    torch.manual_seed(0)
    student, criterion = set_up_distillation(model, model.criterion(h, 64), teacher, h)
    ema = ModelEMA(model, tau=10)
    optimizer = make_optimizer(student, "AdamW", h, 2)
    stepper = Stepper(student, optimizer, Schedule(h, 2, steps, 2), ema)
    state = RunState(model, ema, stepper, EarlyStopping(0), np.zeros(3))
    settings = {"batches_per_epoch": steps, "device": CPU, "layout": layout, **options}
    results = [
        train_one_epoch(student, criterion, batches(n), stepper, epoch=epoch, **settings)
        for epoch, n in ((0, 4), (1, steps - 4))
    ]
    return state, results


RECIPE = Hyperparameters(lr0=0.003, warmup_epochs=0, nominal_batch=2)


def distance(model, teacher):
    """Mean difference between a student's scores and its teacher's, and the residual of its maps after the best linear
    fit of adapters, summed over levels."""
    model.train()  # running statistics lag after so few steps
    with torch.no_grad():
        own, theirs = (m.head_inputs(make_images()) for m in (model, teacher))
        scores = [m.head.decode(m.head(x))[1].amax(-1) for m, x in ((model, own), (teacher, theirs))]
        residuals = []
        for s, t in zip(own, theirs):
            s, t = (x.transpose(0, 1).flatten(1).T.double() for x in (s, t))  # (B * H * W, c)
            s, t = s - s.mean(0), t - t.mean(0)
            fit = torch.linalg.lstsq(s, t, driver="gelsd").solution
            residuals.append(((s @ fit - t).square().sum(0) / t.square().sum(0).clamp(min=1e-9)).mean().item())
    return (scores[0] - scores[1]).abs().mean().item(), sum(residuals)


PAIRS = [(head, HEADS[0]) for head in HEADS] + [(HEADS[0], HEADS[1]), (HEADS[1], HEADS[1]), (HEADS[3], HEADS[3])]


@pytest.mark.parametrize(("head", "teacher_head"), PAIRS, ids=lambda head: head.split(",")[0] + head[-4:-1])
def test_any_head_distills_any_other(teacher_file, tiny_yaml, head, teacher_head):
    model = model_of(text(tiny_yaml, head))
    teacher = load_teacher(teacher_file(teacher_head), model)
    student, criterion = set_up_distillation(model, model.criterion(RECIPE, 64), teacher, RECIPE)
    targets = next(batches(1))["targets"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = student.train()(make_images())
        losses = criterion(outputs, targets)
    named = {name: loss for name, loss in losses.items() if name.startswith("distill_")}
    assert list(named) == [
        "distill_features",
        "distill_scores",
        "distill_dfl" if None is not model.head.reg_max == teacher.head.reg_max else "distill_boxes",
    ]
    assert all(loss.dtype == torch.float32 and loss.ndim == 0 and 0 < loss < 100 for loss in named.values())
    sum(named.values()).backward()
    rows = {
        name.split(".")[1] for name, p in student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert rows >= {"0", "1", "2", "8"} and student.adapters[0].weight.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.training and not teacher.head.training


@pytest.mark.parametrize("head", [HEADS[0], HEADS[1]], ids=["Detect", "AnchorFreeDetect"])
def test_distillation_brings_the_student_closer_to_the_teacher_and_has_no_effect_when_off(
    teacher_file, tiny_yaml, head
):
    """After 16 steps scores and maps are closer to the teacher's than after training on the labels alone."""
    ends, goal = {}, load_teacher(teacher_file(head), model_of(text(tiny_yaml, head)))
    for gains in ((0, 0), (20, 0), (0, 20)):
        model = model_of(text(tiny_yaml, head))
        teacher = goal if any(gains) else None
        h = Hyperparameters(
            **{**RECIPE.as_dict(), "lr0": 0.03, "distill_features": gains[0], "distill_logits": gains[1]}
        )
        _, results = run_of(model, teacher, h)
        losses = [{name: loss for name, loss in result.losses.items() if "distill" in name} for result in results]
        assert all(losses[1][name] < losses[0][name] for name in losses[0]), losses
        assert bool(losses[0]) == any(gains)
        ends[gains] = distance(model, goal)
    assert ends[20, 0][1] < 0.5 * ends[0, 0][1], ends
    assert ends[0, 20][0] < 0.95 * ends[0, 0][0], ends


def test_without_a_teacher_nothing_changes(tiny_yaml):
    model = model_of(tiny_yaml)
    criterion = model.criterion(RECIPE, 64)
    assert set_up_distillation(model, criterion, None, RECIPE) == (model, criterion)
    state, _ = run_of(model, None, RECIPE, steps=5)
    assert "helpers" not in state.state_dict()


def test_adapters_are_saved_for_a_resumed_run_and_nowhere_else(teacher_file, tiny_yaml):
    model = model_of(tiny_yaml)
    teacher = load_teacher(teacher_file(), model)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    state, _ = run_of(model, teacher, RECIPE, steps=6)
    saved = state.state_dict()
    assert list(saved["helpers"]) == ["adapters.0.weight", "adapters.1.weight"]
    assert saved["helpers"]["adapters.0.weight"].shape[:2] == (32, 16)
    assert list(saved["model"]) == list(saved["ema"]) == list(model_of(tiny_yaml).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    names = {id(p): name for name, p in state.stepper.model.named_parameters()}
    trained = {names[id(p)] for group in state.stepper.optimizer.param_groups for p in group["params"]}
    assert trained == set(names.values()) and "adapters.1.weight" in trained

    saved = {
        key: {n: t.clone() for n, t in value.items()} if key in ("model", "ema", "helpers") else value
        for key, value in saved.items()
    }
    other, _ = run_of(model_of(tiny_yaml, seed=5), teacher, RECIPE, steps=5)
    other.load_state_dict(saved)
    assert all(torch.equal(tensor, other.state_dict()["helpers"][name]) for name, tensor in saved["helpers"].items())
    with pytest.raises(UserError, match="does not hold the state"):
        other.load_state_dict({key: value for key, value in saved.items() if key != "helpers"})


@pytest.mark.parametrize("head", HEADS[:2] + HEADS[3:4], ids=lambda head: head.split(",")[0])
def test_every_parameter_has_a_gradient_in_every_batch(teacher_file, tiny_yaml, head):
    """Several processes wait for the gradients of all parameters: DistributedDataParallel hangs where one has none."""
    model = model_of(text(tiny_yaml, head))
    student, criterion = set_up_distillation(
        model, model.criterion(RECIPE, 64), load_teacher(teacher_file(), model), RECIPE
    )
    student.train()
    for batch in batches(2):
        sum(criterion(student(batch["images"] / 255), batch["targets"]).values()).backward()
        assert all(p.grad is not None for p in student.parameters())
        student.zero_grad(set_to_none=True)


def test_maps_of_one_width_need_no_adapter_and_gains_of_zero_no_loss(teacher_file, tiny_yaml):
    model = model_of(text(tiny_yaml, width=2.0))
    teacher = load_teacher(teacher_file(), model)
    assert not list(Student(model, teacher).adapters.parameters())
    h = Hyperparameters(distill_logits=0)
    student, criterion = set_up_distillation(model, model.criterion(h, 64), teacher, h)
    losses = criterion(student.train()(make_images()), next(batches(1))["targets"])
    assert list(losses) == ["box", "obj", "cls", "distill_features"]
    h = Hyperparameters(distill_features=0)
    student, criterion = set_up_distillation(model, model.criterion(h, 64), teacher, h)
    outputs = student.train()(make_images())
    assert outputs.student_maps == [] and "distill_features" not in criterion(outputs, next(batches(1))["targets"])
    with pytest.raises(UserError, match="the teacher has no effect"):
        set_up_distillation(
            model, model.criterion(h, 64), teacher, Hyperparameters(distill_features=0, distill_logits=0)
        )


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.split(",")[0] + head[-4:-1])
def test_a_student_equal_to_its_teacher_has_no_distillation_loss(teacher_file, head):
    teacher_of = torch.load(teacher_file(head), weights_only=True)
    model = model_of(teacher_of["yaml"])
    model.load_state_dict(teacher_of["model"])
    teacher = load_teacher(teacher_file(head), model)
    criterion = DistillationLoss(model.criterion(RECIPE, 64), model, teacher, 1.0, 1.0)
    student = Student(model, teacher).eval()
    model.head.training = True  # all its branches run
    losses = criterion(student(make_images()), next(batches(1))["targets"])
    assert criterion.same_anchors
    assert all(loss.item() == pytest.approx(0, abs=1e-5) for name, loss in losses.items() if "distill" in name)


def test_other_anchors_are_compared_cell_by_cell(teacher_file, tiny_yaml):
    """The best anchor of a cell counts: a slow version, cell by cell."""
    from graftdet.models.distillation.distiller import decode_per_cell

    model = model_of(tiny_yaml)
    with torch.no_grad():
        raw = [torch.randn_like(y) for y in model.train().raw_outputs(make_images())]
    boxes, scores = model.head.decode(raw)
    best_boxes, best_scores = decode_per_cell(model.head, raw)
    start = cell = 0
    for y in raw:
        a, h, w = y.shape[1:4]
        for position in range(h * w):
            own = [start + anchor * h * w + position for anchor in range(a)]
            assert torch.equal(best_scores[0, cell], scores[0, own].amax(0))
            assert torch.equal(best_boxes[0, cell], boxes[0, own[int(scores[0, own].amax(1).argmax())]])
            cell += 1
        start += a * h * w
    assert best_scores.shape[1] == cell
    model.head.set_anchors(torch.tensor([[[5.0, 5], [8, 9], [9, 60]], [[20, 20], [30, 90], [60, 60]]]))
    teacher = load_teacher(teacher_file(), model)
    criterion = DistillationLoss(model.criterion(RECIPE, 64), model, teacher, 1.0, 1.0)
    criterion(Student(model, teacher).train()(make_images()), next(batches(1))["targets"])
    assert criterion.same_anchors is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["circle", "sphere", "triangle"]}, "its class 1 is 'sphere', the data's 'square'"),
        ({"names": ["circle", "square"]}, "has 2 classes, the data has 3"),
        ({"head": "[[7, 4], 1, Detect"}, "strides 8, the model's 8 16"),
    ],
    ids=["name", "count", "levels"],
)
def test_teachers_that_do_not_fit_are_reported(teacher_file, tiny_yaml, change, message):
    if "head" in change:
        yaml = tiny_yaml.replace("[[7, 4], 1, Detect", "[[7], 1, Detect").replace("  - [30,61, 62,45, 59,119]\n", "")
        path = teacher_file(yaml=yaml)
    else:
        yaml = tiny_yaml.replace("nc: 3", f"nc: {len(change['names'])}")
        path = teacher_file(names=change["names"], yaml=yaml)
    with pytest.raises(UserError) as error:
        load_teacher(path, model_of(tiny_yaml))
    assert message in str(error.value) and "--teacher" in str(error.value) and str(path) in str(error.value)


def test_a_missing_teacher_is_reported(tiny_yaml):
    with pytest.raises(UserError, match="--teacher none.pt: no such file"):
        load_teacher("none.pt", model_of(tiny_yaml))
