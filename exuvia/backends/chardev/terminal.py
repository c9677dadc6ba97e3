"""The user's terminal in raw mode, and its return to what it was, however the process ends.

`restore` runs at exit and from the signals that the command handles. For the ends that run no Python (SIGKILL, a fault in native code)
a small guardian, `sh`, waits on a pipe: when the pipe closes before the word "done" came, it gives the terminal back with `stty`.
"""

import atexit
import contextlib
import os
import subprocess
import termios
from typing import Any

_GUARDIAN = "trap '' INT QUIT HUP TERM TSTP TTOU; read -r done || stty \"$0\" <&1"

_fd = -1
_before: list[Any] = []
_raw: list[Any] = []
_guardian: subprocess.Popen[bytes] | None = None


def enter(fd: int, *, signals: bool) -> bool:
    """Put the terminal `fd` in raw mode; with `signals`, Ctrl-C and Ctrl-Z still act on this process. False when `fd` is no terminal."""
    global _fd, _before, _raw, _guardian
    if _before or not os.isatty(fd):
        return False
    _before = termios.tcgetattr(fd)
    _raw = [*_before[:6], list(_before[6])]
    _raw[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )
    _raw[1] |= termios.OPOST
    _raw[2] = _raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    _raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | (0 if signals else termios.ISIG))
    _raw[6][termios.VMIN], _raw[6][termios.VTIME] = 1, 0
    _fd = fd
    _guardian = _guard(fd)
    atexit.register(restore)
    again()
    return True


def again() -> None:
    """Raw mode again, after the process was stopped and continued."""
    _set(_raw)


def pause() -> None:
    """The terminal as it was, until `again`."""
    _set(_before)


def _set(attributes: list[Any]) -> None:
    if _before:
        try:
            termios.tcsetattr(_fd, termios.TCSANOW, attributes)
        except termios.error:  # the terminal is gone
            pass


def restore() -> None:
    """The terminal as it was, for good. May be called at any time, again and again."""
    global _before, _guardian
    pause()
    _before = []
    guardian, _guardian = _guardian, None
    if guardian is not None and guardian.stdin is not None:
        try:
            guardian.stdin.write(b"done\n")
            guardian.stdin.close()
        except OSError:  # it has ended, or the handler of a signal interrupted this very call
            pass
        with contextlib.suppress(subprocess.TimeoutExpired):  # on a busy host it ends later
            guardian.wait(2)


def _guard(fd: int) -> subprocess.Popen[bytes] | None:
    """The guardian, with the terminal as its standard output: a shell's redirections know descriptors of one digit."""
    try:
        saved = subprocess.run(["stty", "-g"], stdin=fd, capture_output=True, text=True, check=True).stdout.strip()
        return subprocess.Popen(
            ["/bin/sh", "-c", _GUARDIAN, saved],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=fd,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, subprocess.CalledProcessError):  # no stty: the other ways of restoring remain
        return None
