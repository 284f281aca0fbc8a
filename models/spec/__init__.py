"""Model YAML as text -> ModelSpec: rows, names, scales. No torch."""
