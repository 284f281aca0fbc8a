"""Hyperparameter search: ranges, trials and their study."""
