"""Running a model on images: predictor, detections, ensembles, test-time augmentation."""
