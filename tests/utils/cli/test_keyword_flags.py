"""Keyword arguments become the same options as the flags of a command line."""

from pathlib import Path

import pytest

from graftdet.utils import cli
from graftdet.utils.cli.keyword_flags import arguments_from_keywords
from graftdet.utils.errors import UserError


def make_parser():
    parser = cli.ArgumentParser()
    add = parser.add_argument
    add("--img", "--img-size", type=cli.at_least(1), default=640)
    add("--name", default="exp")
    add("--project", type=Path, default=Path("runs"))
    add("--rect", action="store_true")
    add("--sync-bn", action=cli.Switch, default=True)
    add("--resume", nargs="?", const="")
    add("--set", nargs="+", action="extend", default=[])
    add("--freeze", nargs="+", type=int, default=[])
    return parser


def parse(**keywords):
    parser = make_parser()
    return vars(parser.parse_args(arguments_from_keywords(parser, keywords, "train_model")))


def test_values_and_defaults():
    defaults = vars(make_parser().parse_args([]))
    assert parse() == defaults
    assert parse(img=None, rect=False, set=[], sync_bn=True, resume=False) == defaults
    given = parse(
        img_size=64, name="-x y", project=Path("a b"), rect=True, sync_bn=False, set={"lr0": 0.1}, freeze=3, resume=True
    )
    assert given == {
        "img": 64,
        "name": "-x y",
        "project": Path("a b"),
        "rect": True,
        "sync_bn": False,
        "set": ["lr0=0.1"],
        "freeze": [3],
        "resume": "",
    }
    assert parse(set=["lr0=0.1", "lrf=1"], freeze=(0, 2), resume="exp") == {
        **defaults,
        "set": ["lr0=0.1", "lrf=1"],
        "freeze": [0, 2],
        "resume": "exp",
    }


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"imgg": 3}, "train_model: unknown argument 'imgg'; did you mean 'img'"),
        ({"no_sync_bn": True}, "unknown argument 'no_sync_bn'; did you mean 'sync_bn'"),
        ({"help": True}, "unknown argument 'help'"),
        ({"rect": 1}, "train_model: rect: expected True or False, got 1"),
        ({"img": 0}, "expected a whole number of at least 1, got '0'"),
        ({"freeze": "x"}, "invalid int value: 'x'"),
    ],
)
def test_errors(keywords, message):
    with pytest.raises(UserError) as error:
        parse(**keywords)
    assert message in str(error.value)
