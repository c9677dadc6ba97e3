"""The op record: one decoded instruction, 32 bytes. All architectures share it; the names are those of operand fields.

    handler 8 | reg rm base index extra scale seg len, one byte each | disp 4 | offset in page 2 | slot 2 | immediate 8

A record that ends a block is followed by one or two links of 32 bytes: the target's address, then a stub record {handler, delta} that
resolves it, then where a copy of the block has its jump there. `reg`, `rm`, `base`, `index`, `extra` and `seg` are slots of register files;
`slot` is the instruction's handler number.
"""

COUNTS = ("scale",)  # fields that are shift counts: decoders keep them below 64
RECORD = 32
LINK = 32
FIELDS: dict[str, tuple[int, int, bool]] = {  # name -> offset, width in bits, signed
    "reg": (8, 8, False),
    "rm": (9, 8, False),
    "base": (10, 8, False),
    "index": (11, 8, False),
    "extra": (12, 8, False),
    "scale": (13, 8, False),
    "seg": (14, 8, False),
    "len": (15, 8, False),
    "disp": (16, 32, True),
    "off": (20, 16, False),
    "slot": (22, 16, False),
    "imm": (24, 64, True),
}
