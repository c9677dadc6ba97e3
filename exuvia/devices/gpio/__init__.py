"""General-purpose inputs and outputs."""
