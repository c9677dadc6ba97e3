"""`exuvia-io`: reads, writes and looks at a disk image command by command, with QEMU's syntax (QEMU, qemu-io(1) and its `help`)."""
