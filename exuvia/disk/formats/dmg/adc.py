"""Apple Data Compression: runs of literal bytes, and copies of what came out before (reverse-engineered descriptions of UDIF)."""


def unpack(data: bytes, length: int) -> bytes:
    """At most `length` bytes. Raises ValueError for a copy from before the beginning, or data that ends too early."""
    out = bytearray()
    at = 0
    while at < len(data) and len(out) < length:
        code = data[at]
        if code & 0x80:
            count = (code & 0x7F) + 1
            out += data[at + 1 : at + 1 + count]
            at += 1 + count
            continue
        if code & 0x40:
            count, back, size = (code & 0x3F) + 4, int.from_bytes(data[at + 1 : at + 3], "big") + 1, 3
        else:
            count, back, size = (code >> 2) + 3, ((code & 3) << 8 | data[at + 1 : at + 2][0] if at + 1 < len(data) else 0) + 1, 2
        at += size
        if at > len(data) or back > len(out):
            raise ValueError("a copy from before the beginning")
        for _ in range(count):
            out.append(out[-back])
    return bytes(out[:length])
