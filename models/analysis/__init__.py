"""Cost and structure of models: summary, comparison, profiling, drawing of the graph."""
