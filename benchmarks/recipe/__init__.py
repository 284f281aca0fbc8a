"""Experiments with recipes: data sets for them (`sets`), and runs over seeds with a table (`runs`)."""
