"""Sources of images: files, folders, lists, videos, animations, streams, cameras, the screen."""
