"""Cost and structure of a model: summary, comparison, profiling, drawing of the graph."""
