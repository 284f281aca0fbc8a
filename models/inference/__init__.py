"""From images to detections: predictors, ensembles, test-time augmentation, and the files that detection writes."""
