"""Image and video files, letterboxing."""
