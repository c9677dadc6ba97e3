"""Long work on a running machine's disks: objects that monitor commands start, watch and end."""
