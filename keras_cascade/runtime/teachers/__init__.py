"""Teachers: SavedModels on this machine, and servers at a URL."""
