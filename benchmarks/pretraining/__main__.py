"""`python -m benchmarks.pretraining [NAME ...]`: train the pretrained weights and write them with their cards.

Each stage is a run of train.py in PROJECT/NAME-stageN. Its last weights are written to PROJECT/NAME-stageN.safetensors,
those of the last stage also to OUT/NAME.safetensors. The same command resumes where it was interrupted.
"""

import subprocess
import sys
from pathlib import Path

from graftdet.models.weights.pretrained.files import find_weights, read_card
from graftdet.models.weights.pretrained.packing import pack
from graftdet.models.weights.safetensors_file import read_header
from graftdet.utils import cli
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.environment import script_command
from graftdet.utils.errors import UserError, did_you_mean

from ..table import ROOT
from .table import FINETUNING, LICENSE, TABLE, TRAINED_ON, Pretraining, Stage


def pretrain(name: str, project: Path, out: Path, from_committed: bool = False) -> Path:
    """Train the stages of one entry of the table that are not done yet; returns the written file.

    Args:
        name: key of `TABLE`.
        project: folder of the runs.
        out: folder of the written file.
        from_committed: continue after the stages behind the file in configs/weights.
    """
    recipe, start, done = TABLE[name], None, 0
    if from_committed:
        start = find_weights(name)
        card = read_card(read_header(start))
        done = len(card.runs) if card else 0
    for number, stage in enumerate(recipe.stages[done:], done + 1):
        folder = project / f"{name}-stage{number}"
        packed = folder.with_suffix(".safetensors")
        if not packed.is_file():
            train(recipe, stage, folder, start or _other(stage.start, project, out))
            values = {"license": LICENSE, "trained_on": TRAINED_ON, "limits": recipe.limits}
            values |= {"recipe": FINETUNING, "reproduce": f"python -m benchmarks.pretraining {name}"}
            pack(folder / "weights" / "last.pt", packed, values)
        start = packed
    if start is None:
        raise UserError(f"{name}: has no stages")
    written = out / f"{name}.safetensors"
    pack(start, written)
    return written


def train(recipe: Pretraining, stage: Stage, folder: Path, start: Path | str) -> None:
    """Train one stage in `folder`, from `start`; an interrupted run is resumed, a finished one is not repeated."""
    last = folder / "weights" / "last.pt"
    if last.is_file():
        if load_checkpoint(last).get("finished"):
            return
        command = ["--resume", folder]
    else:
        command = ["--cfg", recipe.cfg, "--weights", start, "--data", stage.data, "--hyp", recipe.hyp]
        command += ["--img", recipe.img, "--batch-size", recipe.batch_size, "--epochs", stage.epochs]
        command += ["--seed", stage.seed, "--patience", 0, "--project", folder.parent, "--name", folder.name]
        command += ["--exist-ok"]
    if status := run_train(list(map(str, command))):
        raise UserError(f"{folder}: training ended with exit status {status}; the same command resumes it")


def run_train(arguments: list[str]) -> int:
    """Run train.py in a process of its own; returns its exit status."""
    return subprocess.run([*script_command("train"), *arguments], cwd=ROOT).returncode


def _other(start: str, project: Path, out: Path) -> Path | str:
    """The weights that a first stage starts from, see `Stage.start`.

    Those of another entry are its file in `out`, else in configs/weights; those of its first stages lie in `project`.
    """
    if start == "none":
        return start
    name, _, stage = start.partition(":")
    if not stage:
        path = out / f"{name}.safetensors"
        return path if path.is_file() else find_weights(name)
    path = project / f"{name}-stage{stage}.safetensors"
    if not path.is_file():
        raise UserError(f"{path}: is needed to start from; train {name} in the same --project first")
    return path


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.pretraining", description="Train the pretrained weights.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(TABLE)} (default: all)")
    parser.add_argument("--project", type=Path, default=Path("runs/pretraining"), help="folder of the runs")
    parser.add_argument("--out", type=Path, help="folder of the files; configs/weights ships them (default: --project)")
    about = "continue after the stages behind the file in configs/weights instead of repeating them"
    parser.add_argument("--from-committed", action="store_true", help=about)
    args = parser.parse_args(argv)
    for name in args.names:
        if name not in TABLE:
            raise UserError(f"{name}: no such pretrained weights{did_you_mean(name, TABLE)}; known: {', '.join(TABLE)}")
    project = args.project.absolute()
    for name in args.names or TABLE:
        written = pretrain(name, project, (args.out or project).absolute(), args.from_committed)
        print(f"{written}: {written.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(cli.run(main))
