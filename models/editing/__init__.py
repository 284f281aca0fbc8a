"""Edit model YAMLs: insert and swap rows, update sources, preserve comments."""
