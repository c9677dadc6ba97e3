"""The host's processor as oracle: runs a few bytes natively between loading and storing every user-visible register.

A worker process holds a trampoline, hand-encoded below, that walks over a batch of cases in shared memory: it copies a case's state to
fixed addresses, loads it (XRSTOR64, POPFQ, 16 MOVs), jumps to the case's bytes and stores everything that comes back. A signal handler,
also hand-encoded, notes the exception and resumes at the storing half, so a fault costs no process and its register state is exact.
Cases for 32-bit mode are entered by a far jump to Linux's compatibility-mode code segment. A case that destroys its worker or never
ends is reported as a fault with signal SIGKILL, and a new worker carries on behind it.

Sources: Intel SDM vol. 2 (encodings, FXSAVE64), Linux's struct ucontext and GDT (selectors 23h, 2Bh, 33h) for x86-64.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import select
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.oracle.case import CODE, CODE_LIMIT, CODE_PAGE, FXSAVE_SIZE, UPPER_SIZE, WINDOW, WINDOW_SIZE, Case, Fault, Result

BATCH = 128
"""Cases per call of a worker."""
PATIENCE = 30.0
"""Seconds for a batch, after which the case it stands at is taken as never ending. A kernel may fine each split lock a tenth of one."""

# The shared area. A header, the work area that the trampoline uses, then the slots.
SHARED = 0x3000_0000
COUNT, INDEX, HOST_RSP, SLOT_POINTER, FAR_POINTER = (SHARED + 8 * i for i in range(5))
WORK = SHARED + 0x1000
# A slot, and the work area, in this order; sizes in bytes.
FX, HEADER, UPPER = 0, 512, 576  # together what XSAVE64 writes
GPRS, FLAGS, RIP, SIGNAL, VECTOR, ERROR, CR2, MODE, LENGTH, BYTES = 832, 960, 968, 976, 984, 992, 1000, 1008, 1016, 1024
STATE_SIZE = 1280
COMPONENTS = 7
"""x87, SSE and AVX state, or what of it there is."""
SLOT_SIZE = STATE_SIZE + WINDOW_SIZE
SLOTS = SHARED + 0x2000
SHARED_SIZE = (SLOTS - SHARED + BATCH * SLOT_SIZE + 4095) & ~4095
TRAMPOLINE = 0x1100_0000
USER_CS32, USER_DS, USER_CS64 = 0x23, 0x2B, 0x33
HEAD = struct.Struct("<16Q9Q")
SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP)
UC_GREGS, REG_RIP, REG_CS, REG_ERR, REG_TRAPNO, REG_CR2 = 40, 16, 18, 19, 20, 22


def why_not() -> str | None:
    """The reason why this host cannot be the oracle, or None."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64") or sys.maxsize < 1 << 32:
        return f"the oracle needs 64-bit Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    return None


def avx() -> bool:
    """Has the host AVX, and does Linux let programs use it?"""
    return "avx" in Path("/proc/cpuinfo").read_text().split()


class Emitter:
    """Machine code, byte by byte, with labels and 32-bit relative jumps."""

    def __init__(self, origin: int) -> None:
        self.origin, self.code, self.labels, self.jumps = origin, bytearray(), dict[str, int](), list[tuple[int, str]]()

    def emit(self, text: str, *disp32: int) -> None:
        """Hexadecimal bytes, followed by 32-bit words."""
        self.code += bytes.fromhex(text) + b"".join(struct.pack("<I", d) for d in disp32)

    def label(self, name: str) -> None:
        """Names this place."""
        self.labels[name] = self.origin + len(self.code)

    def jump(self, opcode: str, name: str) -> None:
        """A jump or call with a rel32 to a label that may come later."""
        self.emit(opcode, 0)
        self.jumps.append((len(self.code) - 4, name))

    def store(self, register: int, address: int) -> None:
        """MOV [address], r64."""
        self.code += bytes([0x48 | (register >> 3) << 2, 0x89, 0x04 | (register & 7) << 3, 0x25]) + struct.pack("<I", address)

    def load(self, register: int, address: int, wide: bool = True) -> None:
        """MOV r64, [address], or r32."""
        self.code += bytes([(0x48 if wide else 0x40) | (register >> 3) << 2, 0x8B, 0x04 | (register & 7) << 3, 0x25]) + struct.pack(
            "<I", address
        )

    def finish(self) -> bytes:
        """The bytes, with every jump resolved."""
        for at, name in self.jumps:
            struct.pack_into("<i", self.code, at, self.labels[name] - (self.origin + at + 4))
        return bytes(self.code)


def trampoline() -> tuple[bytes, dict[str, int]]:
    """The native side and the addresses of its labels: `entry` (a C function without arguments), `handler` (a sa_sigaction)."""
    e = Emitter(TRAMPOLINE)
    rax, rcx, rsp, rsi, rdi = 0, 1, 4, 6, 7
    copy = "F3 48 A5"  # REP MOVSQ

    def copies(source: int | None, target: int | None, size: int) -> None:
        for register, address in ((rsi, source), (rdi, target)):
            if address is not None:
                e.emit(f"{0xB8 + register:02X}", address)
        e.emit("B9", size // 8)
        e.emit(copy)

    e.label("entry")
    e.emit("53 55 41 54 41 55 41 56 41 57")
    e.store(rsp, HOST_RSP)
    e.label("next")
    e.load(rsi, SLOT_POINTER)
    copies(None, WORK, STATE_SIZE)
    copies(None, WINDOW, WINDOW_SIZE)
    e.emit("BE", WORK + BYTES)  # the code, then E9 rel32 to the storing half of its mode
    e.emit("BF", CODE)
    e.load(rcx, WORK + LENGTH)
    e.emit("F3 A4")
    e.emit("C6 07 E9")
    e.emit("48 8B 04 25", WORK + MODE)
    e.emit("83 F8 20")
    e.emit("B8", TRAMPOLINE)  # patched below: the two exits
    exit64 = len(e.code) - 4
    e.emit("B9", TRAMPOLINE)
    exit32 = len(e.code) - 4
    e.emit("0F 44 C1")  # CMOVE eax, ecx
    e.emit("29 F8 83 E8 05")
    e.emit("89 47 01")
    if avx():
        e.emit("B8", COMPONENTS)
        e.emit("31 D2")
        e.emit("48 0F AE 2C 25", WORK + FX)  # XRSTOR64
    else:
        e.emit("48 0F AE 0C 25", WORK + FX)  # FXRSTOR64
    e.emit("83 3C 25", WORK + MODE)
    e.emit("20")
    e.jump("0F 84", "enter32")
    e.emit("FF 34 25", WORK + FLAGS)
    e.emit("9D")
    for register in range(16):
        e.load(register, WORK + GPRS + 8 * register)
    e.code += b"\xe9" + struct.pack("<i", CODE - (TRAMPOLINE + len(e.code) + 5))
    e.label("enter32")
    e.emit("B8", USER_DS)
    e.emit("8E D8 8E C0")
    e.emit("FF 34 25", WORK + FLAGS)
    e.emit("9D")
    for register in range(8):
        e.load(register, WORK + GPRS + 8 * register, wide=False)
    e.emit("FF 2C 25", FAR_POINTER)  # JMP FAR m16:32
    e.label("exit32")
    e.emit("EA", 0)
    at = len(e.code) - 4
    e.emit("33 00")
    e.label("exit64")
    struct.pack_into("<I", e.code, at, e.labels["exit64"])
    for register in range(16):
        e.store(register, WORK + GPRS + 8 * register)
    e.load(rsp, HOST_RSP)
    e.emit("9C 8F 04 25", WORK + FLAGS)
    e.emit("6A 02 9D")
    if avx():
        e.emit("B8", COMPONENTS)
        e.emit("31 D2")
        e.emit("48 0F AE 24 25", WORK + FX)  # XSAVE64
        e.emit("C5 F8 77")  # VZEROUPPER
    else:
        e.emit("48 0F AE 04 25", WORK + FX)  # FXSAVE64
    e.emit("DB E3")
    e.load(rdi, SLOT_POINTER)
    copies(WORK, None, STATE_SIZE)
    copies(WINDOW, None, WINDOW_SIZE)
    e.store(rdi, SLOT_POINTER)
    e.emit("48 FF 04 25", INDEX)
    e.load(rax, INDEX)
    e.emit("48 3B 04 25", COUNT)
    e.jump("0F 82", "next")
    e.emit("41 5F 41 5E 41 5D 41 5C 5D 5B C3")
    e.label("handler")  # rdi = signal, rdx = ucontext
    e.store(rdi, WORK + SIGNAL)
    for register, to in ((REG_TRAPNO, VECTOR), (REG_ERR, ERROR), (REG_CR2, CR2), (REG_RIP, RIP)):
        e.emit("48 8B 82", UC_GREGS + 8 * register)  # MOV rax, [rdx+disp32]
        e.store(rax, WORK + to)
    e.emit("B8", e.labels["exit64"])
    e.emit("48 89 82", UC_GREGS + 8 * REG_RIP)
    e.emit("66 C7 82", UC_GREGS + 8 * REG_CS)
    e.emit("33 00")
    e.emit("C3")
    struct.pack_into("<I", e.code, exit64, e.labels["exit64"])
    struct.pack_into("<I", e.code, exit32, e.labels["exit32"])
    return e.finish(), e.labels


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor; of one that has ended, more than anybody waits for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return float("inf")
    return float("inf") if fields[0] == "Z" else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class HostCpu:
    """Runs cases on the host's processor. Raises RuntimeError where `why_not()` gives a reason."""

    def __init__(self) -> None:
        if reason := why_not():
            raise RuntimeError(reason)
        self.fd = os.memfd_create("exuvia-oracle")
        os.ftruncate(self.fd, SHARED_SIZE)
        self.view = mmap.mmap(self.fd, SHARED_SIZE)
        self.worker: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """Ends the worker and frees the shared memory."""
        self.stop()
        if self.fd >= 0:
            self.view.close()
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> HostCpu:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> subprocess.Popen[bytes]:
        """The worker, started if there is none."""
        if self.worker is None:
            self.worker = subprocess.Popen(
                [sys.executable, __file__, str(self.fd)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, pass_fds=[self.fd]
            )
        return self.worker

    def stop(self) -> None:
        """Kills the worker."""
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()
            for pipe in (self.worker.stdin, self.worker.stdout):
                if pipe:
                    pipe.close()
            self.worker = None

    def run(self, case: Case) -> Result:
        """Runs one case."""
        return self.run_many([case])[0]

    def run_many(self, cases: list[Case]) -> list[Result]:
        """Runs cases in order, each from its own state."""
        results: list[Result] = []
        while len(results) < len(cases):
            batch = cases[len(results) : len(results) + BATCH]
            for i, case in enumerate(batch):
                self.put(i, case)
            done = self.call(len(batch))
            results += [self.get(i, batch[i]) for i in range(done)]
            if done < len(batch):
                case = batch[done]
                results.append(
                    Result(list(case.gprs), case.rflags, CODE, case.fxsave, case.memory, Fault(signal.SIGKILL, -1, 0, 0), case.upper)
                )
        return results

    def call(self, count: int) -> int:
        """Has the worker run the first `count` slots; how many it finished."""
        struct.pack_into("<2Q", self.view, 0, count, 0)
        struct.pack_into("<QIH", self.view, SLOT_POINTER - SHARED, SLOTS, CODE, USER_CS32)
        worker = self.start()
        assert worker.stdin and worker.stdout
        try:
            worker.stdin.write(b"g")
            end = cpu_seconds(worker.pid) + PATIENCE
            while not select.select([worker.stdout], [], [], PATIENCE)[0] and cpu_seconds(worker.pid) < end:
                pass  # a busy host has not let it run
            if select.select([worker.stdout], [], [], 0)[0] and worker.stdout.read(1) == b"d":
                return count
        except BrokenPipeError:
            pass
        self.stop()
        return int(struct.unpack_from("<Q", self.view, INDEX - SHARED)[0])

    def put(self, index: int, case: Case) -> None:
        """Writes a case to its slot."""
        at = SLOTS - SHARED + index * SLOT_SIZE
        if len(case.code) > CODE_LIMIT or len(case.fxsave) != FXSAVE_SIZE or len(case.memory) != WINDOW_SIZE or case.mode not in (32, 64):
            raise ValueError(f"not a case: {len(case.code)} bytes of code, {len(case.fxsave)}, {len(case.memory)}, mode {case.mode}")
        view = self.view
        view[at + FX : at + FX + FXSAVE_SIZE] = case.fxsave
        view[at + HEADER : at + UPPER] = struct.pack("<Q56x", COMPONENTS)
        view[at + UPPER : at + UPPER + UPPER_SIZE] = case.upper
        HEAD.pack_into(view, at + GPRS, *case.gprs, case.rflags, 0, 0, 0, 0, 0, case.mode, len(case.code), 0)
        view[at + BYTES : at + BYTES + len(case.code)] = case.code
        view[at + STATE_SIZE : at + SLOT_SIZE] = case.memory

    def get(self, index: int, case: Case) -> Result:
        """Reads a result from its slot."""
        at = SLOTS - SHARED + index * SLOT_SIZE
        view = self.view
        values = HEAD.unpack_from(view, at + GPRS)
        gprs = list(values[:16])
        flags, rip, number, vector, error, address = values[16:22]
        if case.mode == 32:
            gprs = [g & 0xFFFF_FFFF for g in gprs[:8]] + case.gprs[8:]
        end, fault = CODE + len(case.code), None
        if not number:
            rip = end
        elif vector == 3 and not CODE < rip <= end and CODE_PAGE < rip <= CODE_PAGE + 4096:
            rip -= 1  # a branch that landed on the filling
        else:
            fault = Fault(number, vector, error, address if vector == 14 else 0)
        fxsave, upper = view[at + FX : at + FX + FXSAVE_SIZE], view[at + UPPER : at + UPPER + UPPER_SIZE]
        return Result(gprs, flags, rip, fxsave, view[at + STATE_SIZE : at + SLOT_SIZE], fault, upper)

    def cpuid(self, leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
        """EAX, EBX, ECX, EDX of CPUID."""
        g = self.run(Case(b"\x0f\xa2", gprs=[leaf, subleaf] + [0] * 14)).gprs
        return g[0], g[3], g[1], g[2]

    def features(self) -> frozenset[str]:
        """Names, as in /proc/cpuinfo, of the instruction-set extensions that CPUID announces (SDM vol. 2, CPUID)."""
        words = {
            "1.ecx": self.cpuid(1)[2], "1.edx": self.cpuid(1)[3],
            "7.ebx": self.cpuid(7)[1] if self.cpuid(0)[0] >= 7 else 0,
            "7.ecx": self.cpuid(7)[2] if self.cpuid(0)[0] >= 7 else 0,
            "ext.ecx": self.cpuid(0x8000_0001)[2], "ext.edx": self.cpuid(0x8000_0001)[3],
        }  # fmt: skip
        return frozenset(name for name, (word, bit) in FEATURES.items() if words[word] >> bit & 1)


FEATURES = {
    name: (word, int(bit))
    for word, names in {
        "1.ecx": "sse3 0, pclmulqdq 1, ssse3 9, fma 12, cx16 13, sse4_1 19, sse4_2 20, movbe 22, popcnt 23, "
        "aes 25, xsave 26, avx 28, f16c 29, rdrand 30",
        "1.edx": "fpu 0, tsc 4, cx8 8, cmov 15, clflush 19, mmx 23, fxsr 24, sse 25, sse2 26",
        "7.ebx": "fsgsbase 0, bmi1 3, avx2 5, bmi2 8, erms 9, rdseed 18, adx 19, sha_ni 29",
        "7.ecx": "vaes 9, vpclmulqdq 10",
        "ext.ecx": "lahf_lm 0, abm 5, sse4a 6",
        "ext.edx": "syscall 11, rdtscp 27",
    }.items()
    for name, bit in (entry.split() for entry in names.split(", "))
}
"""Name -> register of CPUID and bit."""


def serve(fd: int) -> None:
    """The worker: maps everything where it belongs, then runs a batch for every byte that comes in."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    fixed = 0x10_0000  # MAP_FIXED_NOREPLACE

    def place(address: int, size: int, prot: int, flags: int, fd: int) -> None:
        if libc.mmap(address, size, prot, flags | fixed, fd, 0) != address:
            raise OSError(ctypes.get_errno(), f"cannot map {address:#x}")

    place(SHARED, SHARED_SIZE, 3, mmap.MAP_SHARED, fd)
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    place(WINDOW, WINDOW_SIZE, 3, anonymous, -1)
    place(CODE_PAGE, 4096, 7, anonymous, -1)
    place(TRAMPOLINE, 8192, 7, anonymous, -1)
    code, labels = trampoline()
    ctypes.memmove(TRAMPOLINE, code, len(code))
    stack = mmap.mmap(-1, 65536)
    ctypes.memmove(
        ctypes.addressof(spec := ctypes.create_string_buffer(24)),
        struct.pack("<QiiQ", ctypes.addressof(ctypes.c_char.from_buffer(stack)), 0, 0, len(stack)), 24,
    )  # fmt: skip
    libc.sigaltstack(spec, None)
    # glibc's struct sigaction: handler, 1,024 bits of mask, flags, restorer. SA_SIGINFO | SA_ONSTACK | SA_NODEFER
    action = struct.pack("<Q128sixxxxQ", labels["handler"], bytes(128), 0x4 | 0x0800_0000 | 0x4000_0000, 0)
    for number in SIGNALS:
        if libc.sigaction(int(number), action, None):
            raise OSError(ctypes.get_errno(), f"cannot handle signal {number}")
    entry = ctypes.CFUNCTYPE(None)(labels["entry"])
    while os.read(0, 1):
        ctypes.memset(CODE_PAGE, 0xCC, 4096)
        entry()
        os.write(1, b"d")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
