"""Files for several sizes: `scales`, chosen by key, by the file's name or as the first; Detect without anchors."""

from dataclasses import replace

import pytest

from graftdet.models import build_model
from graftdet.models.editing.editor import swap_module
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.errors import UserError

GOOD = """\
nc: 80
scales:  # depth, width, largest width
  n: [0.33, 0.25, 1024]
  s: [0.33, 0.50, 1024]
  m: [0.67, 0.75, 768]

backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 3, C2f, [128, True]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 6, C2f, [256, True]]
  - [-1, 1, Conv, [512, 3, 2]]
  - [-1, 6, C2f, [512, True]]
  - [-1, 1, Conv, [1024, 3, 2]]
  - [-1, 3, C2f, [1024, True]]
  - [-1, 1, SPPF, [1024, 5]]

head:
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [[-1, 6], 1, Concat, [1]]
  - [-1, 3, C2f, [512]]
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [[-1, 4], 1, Concat, [1]]
  - [-1, 3, C2f, [256]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [[-1, 12], 1, Concat, [1]]
  - [-1, 3, C2f, [512]]
  - [-1, 1, Conv, [512, 3, 2]]
  - [[-1, 9], 1, Concat, [1]]
  - [-1, 3, C2f, [1024]]
  - [[15, 18, 21], 1, Detect, [nc]]
"""
# the published totals at 80 classes, less those of the published head (its table of distances included)
BODY = {"n": 3_157_200 - 897_664, "s": 11_166_560 - 2_147_008, "m": 25_902_640 - 3_822_016}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the file above under the name yolov8.yaml, and nothing in configs/models."""
    (tmp_path / "yolov8.yaml").write_text(GOOD)
    (tmp_path / "configs" / "models").mkdir(parents=True)
    monkeypatch.setattr("graftdet.utils.config.CONFIGS", tmp_path / "configs")
    return tmp_path


def body(model) -> int:
    return sum(p.numel() for layer in model.model[:-1] for p in layer.parameters())


@pytest.mark.parametrize("size", BODY)
def test_published_sizes(folder, size):
    model = build_model(folder / f"yolov8{size}.yaml")
    assert body(model) == BODY[size] and model.spec.label == f"{folder / 'yolov8.yaml'} (size {size})"


def read(path, text):
    """The spec of a file, which reads the same from what a checkpoint saves of it."""
    path.write_text(text)
    spec = ModelSpec.read(path)
    saved = ModelSpec.from_text(spec.text, "best7m.pt")
    assert replace(saved, file=spec.file, text=spec.text) == spec
    return spec


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("mine.yaml", 0.25),
        ("mine8s.yaml", 0.5),
        ("yolov8s-p2.yaml", 0.5),
        ("yolov8s-640m.yaml", 0.5),
        ("yolov8s-100e.yaml", 0.5),
        ("yolov8m (1).yaml", 0.75),
        ("yolov8m+dcn.yaml", 0.75),
        ("mine8k.yaml", 0.25),
        ("yolov8.yaml", 0.25),
        ("v8sm.yaml", 0.25),
    ],
)
def test_size_in_a_name(tmp_path, name, width):
    """The first letter after a digit that is a size; without one the first size."""
    spec = read(tmp_path / name, GOOD)
    assert spec.width_multiple == width
    assert spec.label.endswith(f" (size {spec.size}{', the first' if width == 0.25 else ''})")


def test_the_scale_key_overrides_the_file_name(tmp_path):
    assert read(tmp_path / "yolov8s.yaml", GOOD + "scale: m\n").width_multiple == 0.75


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("{nc: 2, scales: {n: [1, 1], s: [1, 0.5]}, backbone: [], head: [[-1, 1, Conv, [8]]]}", "s"),
        ("# flow\n---\n{nc: 2, scales: {n: [1, 1], s: [1, 0.5]}, backbone: [], head: [[-1, 1, Conv, [8]]]}", "s"),
        (GOOD + "...\n", "s"),
        ("\n".join("  " + line for line in GOOD.splitlines()), "s"),
        (GOOD.replace("\n", "\r\n"), "s"),
        (GOOD.replace("n: [0.33", '"011": [0.33').replace("s: [0.33", '"9": [0.33'), "011"),
        (GOOD.replace("n: [0.33", '"a: #b": [0.33').replace("s: [0.33", "yes: [0.33"), "a: #b"),
        (GOOD.replace("n: [0.33", "on: [0.33").replace("s: [0.33, 0.50", "5: [0.33, 0.50"), "True"),
    ],
    ids=range(8),
)
def test_a_checkpoint_contains_the_size(tmp_path, text, size):
    assert read(tmp_path / "mine8s.yaml", text).size == size


def test_largest_width_applies_before_the_multiple():
    spec = ModelSpec.from_text(GOOD + "scale: m\n", "x.yaml")
    assert (spec.depth_multiple, spec.width_multiple, spec.max_channels) == (0.67, 0.75, 768)
    assert [spec.scale_width(c) for c in (64, 768, 1024)] == [48, 576, 576]
    assert ModelSpec.from_text(GOOD.replace("[0.33, 0.25, 1024]", "[0.33, 0.25]"), "x.yaml").scale_width(4096) == 1024


def test_an_unknown_size_in_a_name_is_reported(folder):
    with pytest.raises(UserError, match=r"yolov8.yaml: has no size 'x', expected one of n, s, m"):
        ModelSpec.read(folder / "yolov8x.yaml")
    for name in ("yolov9n.yaml", "yolo.yaml"):
        with pytest.raises(UserError, match="no such file"):
            ModelSpec.read(folder / name)
    (folder / "yolov5.yaml").write_text("nc: 3\nbackbone: []\nhead: []\n")  # of one size
    (folder / "broken8.yaml").write_text(GOOD.replace("n: [0.33,", "n: [0.33, ["))
    (folder / "list8.yaml").write_text(GOOD.replace("scales:", "scales: [n, s, m]\nactivation:"))
    with pytest.raises(UserError, match=r"broken8.yaml:\d+:\d+: error\[yaml-syntax\]: not valid YAML"):
        ModelSpec.read(folder / "broken8s.yaml")
    with pytest.raises(UserError, match="list8.yaml:2:1: .* scales: expected one size per line"):
        ModelSpec.read(folder / "list8s.yaml")
    with pytest.raises(UserError, match="no such file"):
        ModelSpec.read(folder / "yolov5n.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nc: 80", "nc: 80\nwidth_multiple: 0.5", "x.yaml:2:1: error[invalid-scales]: width_multiple beside 'scales'"),
        (
            "n: [0.33, 0.25, 1024]",
            "n: 0.33",
            "x.yaml:3:3: error[invalid-scales]: scales, n: expected [depth, width, largest width], got 0.33",
        ),
        (
            "n: [0.33, 0.25, 1024]",
            "n: [0.33, -1, 1024]",
            "scales, n: expected [depth, width, largest width], each above 0",
        ),
        ("n: [0.33, 0.25, 1024]", "n: [0.33, a, 1024]", "scales, n: expected a number, got 'a'"),
        ("nc: 80", "nc: 80\nscale: x", "scale is 'x', which is none of 'scales'; expected one of n, s, m"),
        ("nc: 80", "nc: 80\nscale: N", "scale is 'N', which is none of 'scales'; did you mean 'n'?"),
        ("scales:", "scal:", "unknown key 'scal'; did you mean 'scales'?"),
        ("scales:", "scale:", "there is no table 'scales' of sizes; did you mean 'scales'?"),
        (
            "  n: [0.33, 0.25, 1024]\n  s: [0.33, 0.50, 1024]\n  m:",
            "n:",
            "unknown key 'n'; is it a size? Indent it below scales",
        ),
        ("nc: 80", "nc: 80\nscale:", "scale is None, which is none of 'scales'; expected one of n, s, m"),
    ],
)
def test_mistakes_in_the_table(old, new, message):
    with pytest.raises(UserError) as caught:
        ModelSpec.from_text(GOOD.replace(old, new), "x.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n [0.33, 0.25, 1024]", "a ':' is missing after 'n'"),
        ("n:[0.33, 0.25, 1024]", "a space is missing after 'n:'"),
        ("n: [0.33, 0.25, 1024  # small", "a ']' is missing"),
        ("n: [0.33, 0.25, 1024]]", "there is one ']' too many"),
    ],
)
def test_a_broken_line_of_the_table(line, message):
    text, problems = GOOD.replace("n: [0.33, 0.25, 1024]", line), []
    spec = ModelSpec.from_text(text, "x.yaml", problems.append)
    assert list(map(str, problems)) == [f"x.yaml:3:1: error[yaml-syntax]: not valid YAML: {message}"]
    assert (spec.depth_multiple, spec.width_multiple, spec.max_channels) == (0.33, 0.25, 1024)


def test_a_size_without_a_table_is_an_error():
    rows = GOOD[GOOD.index("backbone") :]
    with pytest.raises(UserError, match="scales: expected one size per line"):
        ModelSpec.read({"nc": 1, "scales": {(1, 2): [1, 1]}, "backbone": [[-1, 1, "Conv", [8]]], "head": []})
    for head, message in (
        ("scale: n", "scale is 'n', but there is no table"),
        ("scales: 2", "scales: expected one size per line"),
    ):
        with pytest.raises(UserError, match=message):
            ModelSpec.from_text(f"nc: 80\n{head}\n{rows}", "x.yaml")


def test_detect_without_anchors_is_the_head_without_anchors():
    model = build_model(ModelSpec.from_text(GOOD, "x.yaml"))
    same = build_model(ModelSpec.from_text(GOOD.replace("Detect", "AnchorFreeDetect"), "x.yaml"))
    assert type(model.head).__name__ == "AnchorFreeDetect"
    assert [(n, p.shape) for n, p in model.named_parameters()] == [(n, p.shape) for n, p in same.named_parameters()]
    other = build_model(
        ModelSpec.from_text(GOOD.replace("Detect", "DDetect").replace("nc: 80", "nc: 80\nanchors: 3"), "x.yaml")
    )
    assert type(other.head) is type(model.head)  # YOLOv9's name, whose files have anchors that nothing reads


def test_anchors_for_a_model_that_takes_none():
    with pytest.raises(UserError, match="anchors: 3 is set, but no row has 'anchors' in its args"):
        ModelSpec.from_text(GOOD, "x.yaml").with_anchors(3)
    assert ModelSpec.from_text(GOOD.replace("[nc]", "[nc, anchors]"), "x.yaml").with_anchors(4).anchors == 4


@pytest.mark.parametrize(("anchors", "row"), [("anchors: 3\n", "[nc]"), ("", "[nc, anchors]"), ("", "[nc, []]")])
def test_forgotten_anchors_are_an_error(anchors, row):
    with pytest.raises(UserError, match=r"row 22 \(head row 12\) Detect, size n: has no anchors"):
        build_model(ModelSpec.from_text(anchors + GOOD.replace("[nc]", row), "x.yaml"))


@pytest.mark.parametrize("source", ["yolov8.yaml", "yolov8m.yaml", "own8m.yaml"])
@pytest.mark.parametrize("target", ["grafted.yaml", "back8s.yaml"])
def test_rewriting_preserves_the_size(folder, source, target, command):
    """Whatever the new file is called, of a size of a file of several too."""
    (folder / "own8m.yaml").write_text(GOOD)
    before = build_model(ModelSpec.read(folder / source))
    assert command("swap", folder / source, "SPPF", "SimSPPF", "-o", folder / target) == 0
    assert (
        command("insert", folder / target, "--after", "9", "[-1, 1, SimAM, []]", "-o", folder / f"again-{target}") == 0
    )
    after = build_model(ModelSpec.read(folder / f"again-{target}"))
    assert after.spec.size == before.spec.size and body(after) == body(before)
    text = (folder / target).read_text()
    assert text.replace(f'scale: "{before.spec.size}"\n', "") == GOOD.replace("SPPF", "SimSPPF")


@pytest.mark.parametrize("line", ["scale: n\n", "scale : 'n'  # small\n", '"scale": n\n', "scale: n\r\n"])
def test_rewriting_a_size_of_a_file_that_has_a_key(folder, command, line):
    """The size that is asked for stands in the new file, instead of the file's own."""
    (folder / "yolov8.yaml").write_bytes((line + "# saved\n" + GOOD).encode())
    for name, size in (("yolov8s.yaml", "s"), ("yolov8.yaml", "n")):
        assert command("swap", folder / name, "SPPF", "SimSPPF", "-o", folder / "grafted.yaml") == 0
        spec = ModelSpec.read(folder / "grafted.yaml")
        assert spec.size == size and "# saved" in spec.text
        assert ModelSpec.from_text(ModelSpec.read(folder / name).text, "saved").size == size


def test_a_wrong_key_is_not_repaired_silently(folder, command, capsys):
    (folder / "yolov8.yaml").write_text("scale: x\n" + GOOD)
    assert command("swap", folder / "yolov8.yaml", "SPPF", "SimSPPF", "-o", folder / "grafted.yaml") == 2
    assert (
        "scale is 'x', which is none of 'scales'" in capsys.readouterr().err and not (folder / "grafted.yaml").exists()
    )


def test_a_size_of_a_file_is_not_rewritten_in_place(folder, command, capsys):
    assert command("swap", folder / "yolov8m.yaml", "SPPF", "SimSPPF", "--in-place") == 2
    assert "is size m of" in capsys.readouterr().err and (folder / "yolov8.yaml").read_text() == GOOD
    assert command("swap", folder / "yolov8.yaml", "SPPF", "SimSPPF", "--in-place") == 0
    assert (folder / "yolov8.yaml").read_text() == GOOD.replace("SPPF", "SimSPPF")


def test_another_head():
    text, rows = swap_module(GOOD, "Detect", "PicoHead", "x.yaml")
    assert rows == [22] and text == GOOD.replace("Detect", "PicoHead")
