"""Modules as containers of parameters and other modules."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from graftdet.models.arithmetic.tensor import MACS, Parameter, ShapeTensor, Unsupported

MAX_MODULES = 200_000
"""Modules of one model: a row that asks for more takes too long even to count."""


class Module:
    """The part of `torch.nn.Module` that constructors and `forward` of blocks use."""

    training = False
    _count = 0

    def __new__(cls, *args: Any, **kwargs: Any) -> "Module":
        """Count the modules."""
        Module._count += 1
        if Module._count > MAX_MODULES:
            raise Unsupported(f"more than {MAX_MODULES} modules")
        module = super().__new__(cls)
        vars(module)["_modules"] = {}
        return module

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:
            raise TypeError(f"{type(self).__name__} takes no arguments")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `forward`, and count the multiply-adds of a normalization layer."""
        output = self.forward(*args, **kwargs)  # type: ignore[attr-defined]
        if "Norm" in type(self).__name__ and not list(self.children()):
            MACS.add(4 * output.numel())  # as published figures have it
        return output

    @staticmethod
    def restart_count() -> None:
        """Allow `MAX_MODULES` further modules."""
        Module._count = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            vars(self).pop(name, None)
            self._modules[name] = value
        else:
            self._modules.pop(name, None)
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        modules = vars(self)["_modules"]
        if name not in modules:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        return modules[name]

    def children(self) -> Iterator["Module"]:
        """Yield the modules directly inside."""
        yield from self._modules.values()

    def get_submodule(self, name: str) -> "Module":
        """Return the module inside whose name is `name`, with dots between levels."""
        module = self
        for part in name.split(".") if name else ():
            module = getattr(module, part)
        return module

    def named_modules(self, memo: set[int] | None = None, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """Yield the module and all inside it, each once, with its name."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        memo.add(id(self))
        yield prefix, self
        for name, entry in self._modules.items():
            yield from entry.named_modules(memo, f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator["Module"]:
        """Yield the module and all inside it, each once."""
        yield from (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield all parameters, each once, with their names."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, entry in vars(module).items():
                if isinstance(entry, Parameter) and id(entry) not in seen:
                    seen.add(id(entry))
                    yield f"{prefix}.{name}" if prefix else name, entry

    def parameters(self) -> Iterator[Parameter]:
        """Yield all parameters, each once."""
        yield from (parameter for _, parameter in self.named_parameters())

    def register_buffer(self, name: str, tensor: ShapeTensor | None, persistent: bool = True) -> None:
        """Store a tensor that is not trained."""
        setattr(self, name, tensor)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Store a parameter."""
        setattr(self, name, parameter)

    def add_module(self, name: str, module: "Module") -> None:
        """Store a module."""
        setattr(self, name, module)

    def apply(self, function: Callable[["Module"], Any]) -> "Module":
        """Call `function` with each module."""
        for module in list(self.modules()):
            function(module)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> "Module":
        """Set whether the parameters are trained."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def eval(self) -> "Module":
        """Return the module: there is no other mode."""
        return self


class ModuleList(Module):
    """Modules in a list."""

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        self.extend(modules or ())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: Any) -> Any:
        found = list(self._modules.values())[index]
        return type(self)(*self._of(found)) if isinstance(index, slice) else found

    def __setitem__(self, index: int, module: Module) -> None:
        self._modules[list(self._modules)[index]] = module

    @staticmethod
    def _of(modules: list[Module]) -> list[Any]:
        """Arguments of the constructor for these modules."""
        return [modules]

    def append(self, module: Module) -> "ModuleList":
        """Add a module at the end."""
        if not isinstance(module, Module):
            raise TypeError(f"expected a module, got {type(module).__name__}")
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> "ModuleList":
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self


class Sequential(ModuleList):
    """Modules that run one after another."""

    def __init__(self, *args: Any):
        super().__init__()
        if len(args) == 1 and isinstance(args[0], dict):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            self.extend(args)

    @staticmethod
    def _of(modules: list[Module]) -> list[Any]:
        return modules

    def forward(self, x: Any) -> Any:
        """Run all modules."""
        for module in self:
            x = module(x)
        return x
