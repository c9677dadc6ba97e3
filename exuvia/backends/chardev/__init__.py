"""Character backends: one file per `-chardev KIND`."""
