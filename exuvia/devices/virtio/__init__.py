"""Virtual I/O devices (OASIS, Virtual I/O Device (VIRTIO) Version 1.2)."""
