"""Guest memory: the RAM itself and the address spaces in which RAM and devices appear."""
