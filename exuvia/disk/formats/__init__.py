"""Image formats, one file or folder each: a file here is its registration."""
