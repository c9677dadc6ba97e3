"""PCI: the bus, what every function has, and the chipset."""
