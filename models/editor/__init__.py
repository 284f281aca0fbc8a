"""`graftdet edit`: a local page in which a model YAML is edited, with its problems and its graph beside it."""
