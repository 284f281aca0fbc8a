"""ModelSpec -> DetectionModel: argument binding, row building, shape inference, plugins."""
