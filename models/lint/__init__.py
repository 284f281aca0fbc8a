"""`python -m models check`: report all problems of a model YAML."""
