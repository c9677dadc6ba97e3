"""A ring of bytes in memory that native code writes to, from any number of threads, and one at a time of Python's reads."""

import ctypes

ROOM = 256
"""Bytes that wait at most, a power of two."""
OPEN, PUT, GOT, WAITING = 0, 1, 2, 3
"""Its words: may writers put anything into it, how many bytes have been put and got, and the bytes that wait, each with HERE."""
HERE = 1 << 8


class Ring:
    """Closed to begin with. Who writes takes a number by counting PUT up, then stores the byte in that number's place."""

    def __init__(self) -> None:
        self._words = (ctypes.c_uint64 * (WAITING + ROOM))()
        self.address = ctypes.addressof(self._words)

    def open(self, opened: bool) -> None:
        """May writers put anything into it?"""
        self._words[OPEN] = int(opened)

    def take(self) -> bytes:
        """What waits, at most ROOM bytes; more may be put behind it meanwhile."""
        words, data = self._words, bytearray()
        got = words[GOT]
        while len(data) < ROOM and (word := words[at := WAITING + got % ROOM]):
            data.append(word & 0xFF)
            words[at] = 0  # before there is room
            words[GOT] = got = got + 1
        return bytes(data)
