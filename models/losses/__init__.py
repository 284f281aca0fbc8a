"""Criteria: `(raw, targets (M, 6)) -> dict of named losses`, and the losses they consist of. Import the submodule you
need; what assigns targets to predictions is in `assigners`.
"""
