"""vmdk: VMware's virtual disks. `vmdk.py` is the format; an image is a descriptor and extents, each sparse, flat or zero."""
