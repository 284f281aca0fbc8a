"""Content of annotation files: parsed, not yet checked against images. Files are not trusted."""
