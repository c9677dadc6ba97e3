"""The human monitor: commands to a running machine, one function each."""
