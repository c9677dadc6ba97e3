"""qcow2, versions 2 and 3 (QEMU, docs/interop/qcow2.txt): one file per chapter, the class in qcow2.py."""
