"""Operating systems to run: a catalog, and how each comes into the cache."""
