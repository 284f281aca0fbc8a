"""Criteria and assigners: `(raw, targets (M, 6)) -> dict of named losses`. Import the submodule you need."""
