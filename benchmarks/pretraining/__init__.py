"""Training of the pretrained weights in configs/weights: `python -m benchmarks.pretraining graft-n`."""
