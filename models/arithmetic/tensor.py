"""Tensors that have a shape and no values."""

import math
from collections.abc import Iterable, Iterator
from typing import Any


class Unsupported(BaseException):
    """The stand-in does not know what torch does here. No `except Exception` of a row builder may hide that."""


class Size(tuple):
    """The shape of a tensor."""

    def numel(self) -> int:
        """Return the number of elements."""
        return math.prod(self)


class MacCounter:
    """Multiply-adds of all operations since the last `take`."""

    def __init__(self) -> None:
        self._macs = 0

    def add(self, macs: int) -> None:
        """Count multiply-adds."""
        self._macs += macs

    def take(self) -> int:
        """Return the sum, and start again at zero."""
        macs, self._macs = self._macs, 0
        return macs


MACS = MacCounter()

_SAME_SHAPE = frozenset(
    """
    contiguous clone detach to float half double type_as cuda cpu requires_grad_ sigmoid sigmoid_ tanh relu relu_ exp
    sqrt rsqrt square abs neg log clamp clamp_ clamp_min pow softmax log_softmax add_ mul_ div_ sub_ fill_ zero_ copy_
    masked_fill masked_fill_ normal_ uniform_ round floor sin cos silu add sub mul div reciprocal type detach_ eq gt lt
    logical_not flip roll erf int long bool floor_divide
    """.split()
)
"""Methods whose result has the shape of the tensor, broadcast with a tensor among the arguments."""
_REDUCING = frozenset("mean sum amax amin prod std var norm logsumexp all any".split())


def unpack(numbers: Any) -> list:
    """The numbers of a method that takes them one by one or as one list."""
    return list(numbers[0] if len(numbers) == 1 and isinstance(numbers[0], (tuple, list)) else numbers)


class ShapeTensor:
    """A tensor without values: `shape` follows from each operation as in torch."""

    requires_grad = False
    dtype = device = "no values"

    def __init__(self, *shape: int):
        if any(not isinstance(side, int) or isinstance(side, bool) for side in shape):
            raise TypeError(f"shape {shape}: expected whole numbers")
        if any(side < 0 for side in shape):
            raise RuntimeError(f"negative size in {shape}")
        self.shape = Size(shape)

    def __getattr__(self, name: str) -> Any:
        if name in _SAME_SHAPE:
            return lambda *args, **kwargs: broadcast(self, *args, *kwargs.values())
        if name in _REDUCING:
            return lambda *args, **kwargs: reduce(self, *args, **kwargs)
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(f"Tensor.{name}")

    def __bool__(self) -> bool:
        raise Unsupported("the value of a tensor")

    __float__ = __int__ = __index__ = __bool__  # type: ignore[assignment]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator["ShapeTensor"]:
        return iter(self.unbind(0))

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def data(self) -> "ShapeTensor":
        """The tensor itself."""
        return self

    @property
    def T(self) -> "ShapeTensor":
        """The transposed matrix."""
        return ShapeTensor(*self.shape[::-1])

    def is_contiguous(self, **_: Any) -> bool:
        """Return True: shapes have no memory format."""
        return True

    def dim(self) -> int:
        """Return the number of dimensions."""
        return len(self.shape)

    def numel(self) -> int:
        """Return the number of elements."""
        return self.shape.numel()

    def _position(self, dim: int) -> int:
        """The position of a dimension that may count from the end."""
        return range(self.ndim)[dim]

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or one of its numbers."""
        return self.shape if dim is None else self.shape[dim]

    def __getitem__(self, index: Any) -> "ShapeTensor":
        items = list(index) if isinstance(index, tuple) else [index]
        given = sum(item is not None and item is not Ellipsis for item in items)
        if Ellipsis not in [item for item in items if item is None or item is Ellipsis]:
            items.append(Ellipsis)
        position = next(i for i, item in enumerate(items) if item is Ellipsis)
        items[position : position + 1] = [slice(None)] * (self.ndim - given)
        sides, shape = iter(self.shape), []
        for item in items:
            if item is None:
                shape.append(1)
            elif isinstance(item, slice):
                shape.append(len(range(*item.indices(next(sides)))))
            elif isinstance(item, int) and not isinstance(item, bool):
                side = next(sides)
                if not -side <= item < side:
                    raise IndexError(f"index {item} of {side}")
            else:
                raise Unsupported("indexing by a tensor")
        return ShapeTensor(*shape)

    def __setitem__(self, index: Any, value: Any) -> None:
        _ = self[index]

    def view(self, *shape: Any) -> "ShapeTensor":
        """Return the shape with the same number of elements; one side may be -1."""
        sides = unpack(shape)
        if any(not isinstance(side, int) for side in sides):
            raise TypeError(f"view as {sides}")
        if sides.count(-1) == 1:
            known = math.prod(side for side in sides if side != -1)
            if not known or self.numel() % known:
                raise RuntimeError(f"shape {sides} is invalid for {self.numel()} elements")
            sides[sides.index(-1)] = self.numel() // known
        if math.prod(sides) != self.numel():
            raise RuntimeError(f"shape {sides} is invalid for {self.numel()} elements")
        return ShapeTensor(*sides)

    reshape = view

    def view_as(self, other: "ShapeTensor") -> "ShapeTensor":
        """Return the shape of another tensor."""
        return self.view(*other.shape)

    def permute(self, *order: Any) -> "ShapeTensor":
        """Return the dimensions in another order."""
        order = unpack(order)
        if sorted(map(self._position, order)) != list(range(self.ndim)):
            raise RuntimeError(f"permutation {order} of {self.ndim} dimensions")
        return ShapeTensor(*(self.shape[dim] for dim in order))

    def transpose(self, first: int, second: int) -> "ShapeTensor":
        """Exchange two dimensions."""
        sides = list(self.shape)
        sides[first], sides[second] = sides[second], sides[first]
        return ShapeTensor(*sides)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> "ShapeTensor":
        """Merge the dimensions from `start_dim` to `end_dim`."""
        start, end = self._position(start_dim), self._position(end_dim)
        merged = math.prod(self.shape[start : end + 1])
        return ShapeTensor(*self.shape[:start], merged, *self.shape[end + 1 :])

    def unflatten(self, dim: int, sizes: Iterable[int]) -> "ShapeTensor":
        """Divide one dimension into several."""
        dim = self._position(dim)
        parts = ShapeTensor(self.shape[dim]).view(*sizes).shape
        return ShapeTensor(*self.shape[:dim], *parts, *self.shape[dim + 1 :])

    def unsqueeze(self, dim: int) -> "ShapeTensor":
        """Insert a dimension of one."""
        dim = range(self.ndim + 1)[dim]
        return ShapeTensor(*self.shape[:dim], 1, *self.shape[dim:])

    def squeeze(self, dim: int | None = None) -> "ShapeTensor":
        """Remove a dimension of one, or all of them."""
        if dim is None:
            return ShapeTensor(*(side for side in self.shape if side != 1))
        dim = self._position(dim)
        return ShapeTensor(*self.shape[:dim], *self.shape[dim:][self.shape[dim] == 1 :])

    def split(self, sizes: Any, dim: int = 0) -> tuple["ShapeTensor", ...]:
        """Divide one dimension into parts of these sizes, or of one size."""
        dim = self._position(dim)
        side = self.shape[dim]
        if isinstance(sizes, int):
            if sizes < 1:
                raise RuntimeError(f"parts of {sizes}")
            sizes = [min(sizes, side - start) for start in range(0, side, sizes)]
        if sum(sizes) != side:
            raise RuntimeError(f"parts {sizes} of {side}")
        return tuple(ShapeTensor(*self.shape[:dim], size, *self.shape[dim + 1 :]) for size in sizes)

    def chunk(self, chunks: int, dim: int = 0) -> tuple["ShapeTensor", ...]:
        """Divide one dimension into at most `chunks` parts."""
        return self.split(-(-self.shape[dim] // chunks), dim)

    def unbind(self, dim: int = 0) -> tuple["ShapeTensor", ...]:
        """Return the slices along one dimension."""
        dim = self._position(dim)
        return (ShapeTensor(*self.shape[:dim], *self.shape[dim + 1 :]),) * self.shape[dim]

    def expand(self, *shape: Any) -> "ShapeTensor":
        """Repeat dimensions of one."""
        sides = unpack(shape)
        own = [1] * (len(sides) - self.ndim) + list(self.shape)
        wanted = [old if side == -1 else side for side, old in zip(sides, own, strict=True)]
        if any(old not in (1, side) for side, old in zip(wanted, own, strict=True)):
            raise RuntimeError(f"{tuple(self.shape)} cannot be expanded to {sides}")
        return ShapeTensor(*wanted)

    def expand_as(self, other: "ShapeTensor") -> "ShapeTensor":
        """Repeat dimensions of one as in another tensor."""
        return self.expand(*other.shape)

    def repeat(self, *counts: int) -> "ShapeTensor":
        """Repeat the tensor along its dimensions."""
        own = [1] * (len(counts) - self.ndim) + list(self.shape)
        return ShapeTensor(*(side * count for side, count in zip(own, counts, strict=True)))

    def max(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """Return the largest values, with their indices where `dim` is given."""
        values = reduce(self, dim, keepdim)
        return values if dim is None else (values, values)

    def matmul(self, other: "ShapeTensor") -> "ShapeTensor":
        """Multiply by a matrix, counting its multiply-adds."""
        if self.ndim < 2 or other.ndim < 2 or self.shape[-1] != other.shape[-2]:
            raise RuntimeError(f"{tuple(self.shape)} @ {tuple(other.shape)}")
        batch = broadcast(ShapeTensor(*self.shape[:-2]), ShapeTensor(*other.shape[:-2])).shape
        result = ShapeTensor(*batch, self.shape[-2], other.shape[-1])
        MACS.add(result.numel() * self.shape[-1])
        return result

    __matmul__ = bmm = mm = matmul


class Parameter(ShapeTensor):
    """A trained tensor."""

    requires_grad = True

    def __init__(self, data: ShapeTensor, requires_grad: bool = True):
        super().__init__(*data.shape)
        self.requires_grad = requires_grad

    def requires_grad_(self, requires_grad: bool = True) -> "Parameter":
        """Set whether the tensor is trained."""
        self.requires_grad = requires_grad
        return self


def broadcast(*values: Any) -> ShapeTensor:
    """Return the common shape of the tensors among `values`. Raises `RuntimeError` if there is none."""
    shapes = [value.shape for value in values if isinstance(value, ShapeTensor)]
    if not shapes:
        raise Unsupported("a function of numbers")
    sides = []
    for i in range(1, max(map(len, shapes)) + 1):
        found = {shape[-i] for shape in shapes if len(shape) >= i} - {1}
        if len(found) > 1:
            raise RuntimeError(f"shapes {[tuple(shape) for shape in shapes]} do not fit")
        sides.append(found.pop() if found else 1)
    return ShapeTensor(*sides[::-1])


def reduce(tensor: ShapeTensor, dim: Any = None, keepdim: bool = False, **_: Any) -> ShapeTensor:
    """Return the shape without the dimensions `dim`, or with one element there."""
    dims = range(tensor.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    removed = {range(tensor.ndim)[dim] for dim in dims}
    sides = [1 if i in removed else side for i, side in enumerate(tensor.shape) if keepdim or i not in removed]
    return ShapeTensor(*sides)


_OPERATORS = """
    add radd iadd sub rsub isub mul rmul imul truediv rtruediv itruediv pow rpow floordiv mod
    lt le gt ge eq ne neg invert and or
    """.split()
for _name in _OPERATORS:
    setattr(ShapeTensor, f"__{_name}__", broadcast)
