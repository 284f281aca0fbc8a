"""Convert a program of torch.export to LiteRT: `python litert_script.py PROGRAM.pt2 OUT.tflite NAME...`.

Run by the Python of the converter's environment, which holds no module of this project. Input and outputs get the names
that an ONNX file has.
"""

import sys
from typing import Any


def convert(source: str, target: str, names: list[str]) -> None:
    """Convert one program.

    Args:
        source: a file of `torch.export.save` with one input, images (B, C, H, W).
        target: the `.tflite` file to write.
        names: names of the outputs, in order.
    """
    import litert_torch
    import torch

    class Named(torch.nn.Module):
        """The program with its outputs by name."""

        def __init__(self, program: torch.nn.Module):
            super().__init__()
            self.program = program

        def forward(self, images: torch.Tensor) -> dict[str, Any]:
            outputs = self.program(images)
            return dict(zip(names, outputs if isinstance(outputs, (tuple, list)) else (outputs,), strict=True))

    program = torch.export.load(source)
    (images,), _ = program.example_inputs
    litert_torch.convert(Named(program.module()), sample_kwargs={"images": images}).export(target)


if __name__ == "__main__":
    try:
        convert(sys.argv[1], sys.argv[2], sys.argv[3:])
    except Exception as error:  # torch and the converter raise many types; the caller reads the last line
        sys.exit(f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}")
