"""Reading weights files and loading them into a graph."""
