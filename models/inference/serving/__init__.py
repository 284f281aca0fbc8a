"""`graftdet serve`: detection over HTTP. Needs the extra `serve`."""
