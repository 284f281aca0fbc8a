"""Class outputs between models with different classes: each class takes the outputs of the class of its name."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch

_PLACEHOLDER = re.compile(  # a number in place of a name
    r"(class(es|name)?|cls|category|categories|label|object|obj|item|name|id|type|target|clase|classe|klasse|класс"
    r"|类别?|類別?|クラス)?[#:.(\[]*\d+(\.0)?[)\]]*"
)


def match_classes(names: Sequence[str], old_names: Sequence[str]) -> dict[int, int]:
    """Match classes by name: class index in `names` -> class index in `old_names`.

    Names match when they are equal, or when they are equal without case, spaces, underscores and hyphens and no other
    class has the same such form. A name that the file has several times matches in the order of its classes if both
    have as many, else nothing. Numbers in place of names ("0", "class_3") match nothing: they mean other classes in
    every dataset.
    """
    own, by_name = _group(names, str), _group(old_names, str)
    forms, by_form = _group(names, _form), _group(old_names, _form)
    matches = {}
    for index, name in enumerate(names):
        form = _form(name)
        if _PLACEHOLDER.fullmatch(form):
            continue
        if name in by_name:
            same = by_name[name]
            if len(same) in (1, len(own[name])):
                matches[index] = same[own[name].index(index) % len(same)]
        elif len(forms[form]) == 1 and len(by_form[form]) == 1:
            matches[index] = by_form[form][0]
    return matches


def _form(name: str) -> str:
    """A name without case, spaces, underscores, hyphens and the differences between equivalent Unicode texts."""
    return re.sub(r"[\s_\u2010-\u2015-]+", "", unicodedata.normalize("NFKC", name)).casefold()


def _group(names: Sequence[str], key: Callable[[str], str]) -> defaultdict[str, list[int]]:
    """Key of a name -> the indices of the names that have it."""
    indices = defaultdict(list)
    for index, name in enumerate(names):
        indices[key(name)].append(index)
    return indices


@torch.no_grad()
def copy_class_layer(
    source: torch.Tensor, target: torch.Tensor, anchors: int, others: int, nc: int, matches: Mapping[int, int]
) -> float:
    """Copy a weight or bias of a layer whose outputs are `anchors` times (`others` + classes), in place.

    Args:
        source: tensor of the file, with any number of classes.
        target: tensor of the model, with `nc` classes; one of its axes has anchors * (others + nc) entries.
        anchors: anchors per cell.
        others: outputs per anchor before the classes.
        nc: number of classes of the model.
        matches: class of the model -> class of the file.

    Returns:
        The fraction of `target` that was copied; 0 where the layers do not correspond.
    """
    size = anchors * (others + nc)
    axis = next((axis for axis, length in enumerate(target.shape) if length == size), None)
    if axis is None or source.ndim != target.ndim or source.shape[axis] % anchors:
        return 0.0
    old_nc = source.shape[axis] // anchors - others
    without_axis = [(*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor in (source, target)]
    if without_axis[0] != without_axis[1] or old_nc < 1 or any(old >= old_nc for old in matches.values()):
        return 0.0
    old = source.movedim(axis, 0).unflatten(0, (anchors, -1))  # (A, others + classes, ...)
    new = target.movedim(axis, 0).unflatten(0, (anchors, -1))
    new[:, :others] = old[:, :others].to(new.dtype)
    for index, old_index in matches.items():
        new[:, others + index] = old[:, others + old_index].to(new.dtype)
    return (others + len(matches)) / (others + nc)
