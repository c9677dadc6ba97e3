"""exuvia-io against qemu-io."""
