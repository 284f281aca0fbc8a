"""From a model to a traced graph: what an exported file computes. Imported only to export."""
