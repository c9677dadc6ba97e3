"""vvfat: a folder of the host as a FAT disk that is made while it is read. `vvfat.py` is the node."""
