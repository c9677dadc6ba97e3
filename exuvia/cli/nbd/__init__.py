"""`exuvia-nbd`: qemu-nbd's options."""
