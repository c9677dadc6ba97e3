"""Nodes that change how another node is used, not what it holds."""
