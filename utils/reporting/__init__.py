"""Reports of runs as one HTML file."""
