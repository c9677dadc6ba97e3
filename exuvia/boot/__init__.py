"""What firmware leaves behind when it hands the machine to a kernel: images in RAM, tables, and the first processor state."""
