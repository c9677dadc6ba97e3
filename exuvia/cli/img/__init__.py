"""`exuvia-img`: QEMU's command lines for disk images, one file per command (QEMU, Tools, qemu-img)."""
