"""What every folder may lean on: the registry, bit fields, the log and the user's errors."""
