"""Shapes, parameters and multiply-adds of a model by arithmetic, without torch.

The code of blocks and heads is loaded a second time with a stand-in for torch whose tensors have a shape and no values
(`loader`). So a block declares its arithmetic by its code alone. Whatever the stand-in does not know raises
`Unsupported`, and torch decides.
"""
