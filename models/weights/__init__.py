"""Reading weights files, and loading weights into a graph that may differ from the one they were trained in."""
