"""Disk images: nodes that hold bytes, formats that give them meaning, protocols that reach them. docs/disk.md is the map."""
