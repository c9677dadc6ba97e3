"""NBD, both ends: `protocols/nbd.py` is a node whose bytes a server has, `server.py` serves nodes (the NBD protocol, doc/proto.md)."""
