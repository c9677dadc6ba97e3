"""Where bytes lie: files, sockets, servers. A file here is its registration."""
