"""Training: loop, run state, optimizers, schedule, EMA, hyperparameter search."""
