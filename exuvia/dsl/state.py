"""The layout of a processor's state in memory, declared once: reset, save, load and the debugger's views derive from it.

The first 256 bytes can be reached by byte-wide record fields; engines use the words that `ENGINE` names; the architecture's own follow.
"""

from __future__ import annotations

from dataclasses import dataclass

from exuvia.dsl import tick

# What every engine needs, one 64-bit word each. `pc` here is the linear address where execution goes on.
ENGINE = f"""deadline budget_end request interrupt_pending icount pc op resume reason current mode generation cache
    tlb tlb_system slots modes functions leave arg0 arg1 arg2 arg3
    vector error fault_vector fault_error address access pending miss_op miss_icount miss_count
    io_port io_size io_data io_ready mmio_address mmio_size mmio_done mmio_next bounce_count bounce_used bounce_entry bounce_none
    walk_page walk_rights walk_error local_count global_count huge_pages
    journal journaled slot wanted_count stepping watching access_count tlb_base decoded invalidated hot hot_after first_look
    tlb_misses host_control wanted inside asked pauses alarm time_offset time_runs mmio_registers port_registers posted
    {tick.WORDS}""".split()
ENGINE_AT = 256
ISA_AT = 2560  # where the architecture's declarations start
PAGE_AT = 136  # the linear address of the running block's page
MMIO_RESULTS_AT = ENGINE_AT + 8 * len(ENGINE)  # up to 128 words that devices answered, for an instruction that is done again
MMIO_RESULTS = 128
RUNTIME_AT = MMIO_RESULTS_AT + 8 * MMIO_RESULTS  # pointers to the runtime's functions, for code compiled apart from it
ROUTINES_AT = RUNTIME_AT + 8 * 24  # one record of 32 bytes for each of ROUTINES
SCRATCH_AT = 16384 - 128  # bytes for one native function's own use
JUMPS_AT = 16384  # the jump cache: 16384 x {tag, head}
JUMPS = 16384
JUMP_TAG = 15  # a tag: that many bits of generation and mode, below as many bits of the address as there are left
MODE_BITS = 6  # of those, the mode's
BOUNCES_AT = JUMPS_AT + 16 * JUMPS  # what the careful handlers access in pieces: descriptions of 64 bytes, then the bytes
BOUNCES, BOUNCE_BYTES = 80, 8192  # XSAVE has 63 accesses
WATCHES_AT = (
    BOUNCES_AT + 64 * BOUNCES + BOUNCE_BYTES
)  # linear pages whose accesses Python wants to see: WATCHES of data, as many of code; all ones: none
WATCHES = 6
ACCESSES_AT = WATCHES_AT + 8 * 2 * WATCHES  # what an instruction did there: {linear address, access word}
ACCESSES = 64
STEP_AT = ACCESSES_AT + 16 * ACCESSES  # the block of one instruction that is stepped through
STATE_SIZE = STEP_AT + 512


@dataclass(frozen=True)
class File:
    """`count` registers of `width` bits, `stride` bytes apart, starting at `offset`."""

    name: str
    offset: int
    count: int
    width: int
    stride: int
    reset: int = 0


class Layout:
    """Names to places; `size` is what a state occupies, in bytes."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.size = ISA_AT
        for i, name in enumerate(ENGINE):
            self.files[name] = File(name, ENGINE_AT + 8 * i, 1, 64, 8)
        self.files["page"] = File("page", PAGE_AT, 1, 64, 8)
        assert ROUTINES_AT + 32 * 8 <= ISA_AT, "the engine's words reach into the architecture's"
        self.declared: list[str] = []
        # parts of the processor that are texts of their own, each with a record in the state; these two every architecture has
        self.routines = ["fault", "access_fault"]
        # base and limit (the last byte's offset) of the code segment, where there are modes in which it can end: `Architecture.limited`
        self.code_limit: tuple[tuple[str, int], tuple[str, int]] | None = None
        # the word that is laid out like x86's MXCSR, of an architecture whose floats some hosts compute alike (codegen/floats.py)
        self.vector_control: str | None = None
        self.stack_control: str | None = None  # and the x87's, and the one that has its exceptions
        self.stack_status: str | None = None
        # the word that says where execution goes on after the present instruction, where it is not zero: of an architecture with delay
        # slots. An instruction with a slot is several records, all but the last two of length 0
        self.delayed: str | None = None
        # words that say something only while such an instruction is under way, that one among them
        self.passing: tuple[str, ...] = ()
        self.zeros: set[tuple[str, int]] = set()  # registers that always read as zero, by file and slot
        self.sinks: set[tuple[str, int]] = set()  # those that are only written
        self.above: dict[str, str] = {}  # files whose registers lie right above those of another and make one of twice the width with them
        self.walked: set[str] = set()  # files that page walks write, so that they depend on what a TLB held
        self.attention: dict[str, int] = {}  # bits of words: where an instruction that may change them leaves one set, Python looks

    def file(self, name: str, count: int, width: int, *, stride: int | None = None, at: int | None = None, reset: int = 0) -> File:
        """Declare a register file; without `at` it is placed behind the last one, aligned to 16 bytes where it is wider than 64 bits."""
        if name in self.files:
            raise ValueError(f"the state has two files named {name}")
        stride = stride or max(8, width // 8)
        if at is None:
            align = 16 if width > 64 else 8
            at = -(-self.size // align) * align
            self.size = at + count * stride
        f = self.files[name] = File(name, at, count, width, stride, reset)
        self.declared.append(name)
        return f

    def words(self, names: str, **resets: int) -> None:
        """Declare single 64-bit registers."""
        for name in names.split():
            self.file(name, 1, 64, reset=resets.get(name, 0))

    def offset(self, name: str, slot: int = 0) -> int:
        """Byte offset of a register in the state."""
        f = self.files[name]
        return f.offset + slot * f.stride
