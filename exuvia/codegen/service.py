"""Regions and stencils compiled beside the machine: worker processes, and a thread for each that waits for its answers.

A worker that dies or hangs costs what it was about; after a few of them no more are started and the interpreter runs alone.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import exuvia
from exuvia.codegen.engine import changed_since_start
from exuvia.codegen.making import Made, Making, Wanted
from exuvia.codegen.stencil import Forms, Stencils
from exuvia.codegen.worker import receive, send
from exuvia.support import log

PATIENCE = 60.0  # seconds that a request may take
DEATHS = 5
PRICE = 1024  # samples, each of 16,000 instructions or so, that take the interpreter half as long as a worker takes to start
Request = Wanted | Forms
Answer = Made | Stencils
Done = Callable[[Any, Any, Making], None]  # a request, its answer, and how it went


class Service:
    """`submit` a region, or forms that want stencils; `done` is called in a thread of ours when it is compiled, with None where that
    failed, and how it went.

    `heat` says how often a region's blocks were seen: the hottest is next. Workers start when what waits was seen `price` times.
    Stencils come before all regions, and are worth a worker.
    """

    def __init__(
        self,
        module: str,
        features: frozenset[str],
        done: Done,
        heat: Callable[[Wanted], int] = lambda wanted: 0,
        workers: int | None = None,
        price: int = 0,
    ) -> None:
        # -P: no module of the folder that the user happens to be in
        self.arguments = [sys.executable, "-P", "-m", "exuvia.codegen.worker", module, ",".join(sorted(features))]
        self.architecture = import_module(module).architecture()
        self.done, self.heat, self.price = done, heat, price
        self.workers = workers or max(1, min(4, (os.cpu_count() or 2) - 1))
        self.todo: list[Request] = []
        self.change = threading.Condition()
        self.threads: list[threading.Thread] = []
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.deaths = 0
        self.closed = False

    def submit(self, wanted: Request) -> None:
        """Have it compiled."""
        with self.change:
            self.todo.append(wanted)
            self.change.notify()
        self.hire()

    def hire(self) -> None:
        """Start workers if what waits is worth it: it is submitted, or was seen again."""
        enough = self.threads or sum(max(0, self.worth(wanted)) for wanted in self.todo) >= self.price
        if enough and len(self.threads) < min(self.workers, len(self.todo)):
            self.threads.append(threading.Thread(target=self.work, name="regions", daemon=True))
            self.threads[-1].start()

    def busy(self) -> bool:
        """Is there something that no worker has begun, though there are workers?"""
        return bool(self.threads and self.todo)

    def worth(self, wanted: Request) -> float:
        """How often it was seen."""
        return self.heat(wanted) if isinstance(wanted, Wanted) else math.inf

    def next(self) -> Request | None:
        """What was seen most often by now; None at the end."""
        with self.change:
            self.change.wait_for(lambda: self.todo or self.closed)
            if self.closed:
                return None
            hottest = max(self.todo, key=self.worth)
            self.todo.remove(hottest)
            return hottest

    def start(self) -> subprocess.Popen[bytes]:
        """A worker of our own package, wherever that lies. Raises EOFError at the end, and where a worker would be of another version
        than this process: it might mean something else by the number of an instruction form.
        """
        if changed_since_start(self.architecture):
            raise EOFError("the program's files have changed since the machine was started")
        path = os.pathsep.join(filter(None, [str(Path(exuvia.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
        with self.change:
            if self.closed:
                raise EOFError
            process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )
            self.processes.add(process)
        return process

    def work(self) -> None:
        """One worker's thread."""
        process: subprocess.Popen[bytes] | None = None
        while (wanted := self.next()) is not None:
            made: Answer | str = f"{DEATHS} compile workers ended before"
            start = time.monotonic()
            if self.deaths < DEATHS:
                try:
                    process = process or self.start()
                    made = self.compile(process, wanted)
                except (OSError, EOFError, ValueError) as error:
                    self.deaths += 1
                    made = f"its compile worker ended: {type(error).__name__} {error}"
                    if not self.closed:
                        log.guest_errors(f"a compile worker ended: {type(error).__name__} {error}")
                    if process is not None:
                        self.end(process)
                    process = None
            if not self.closed:
                how = Making(time.monotonic() - start, made if isinstance(made, str) else "")
                self.done(wanted, None if isinstance(made, str) else made, how)
        if process is not None:
            self.end(process)

    def compile(self, process: subprocess.Popen[bytes], wanted: Request) -> Answer | str:
        """One answer, or why it could not be; raises EOFError for a worker that talks nonsense or is no more, which a hung one soon is."""
        assert process.stdin is not None and process.stdout is not None
        alarm = threading.Timer(PATIENCE, process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            send(process.stdin, wanted)  # type: ignore[arg-type]
            made = receive(process.stdout)  # type: ignore[arg-type]
        finally:
            alarm.cancel()
        if not isinstance(made, (Made if isinstance(wanted, Wanted) else Stencils) | str):
            raise EOFError(f"{type(made).__name__} instead of what was asked for")
        return made

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a worker."""
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        process.wait()
        self.processes.discard(process)

    def close(self) -> None:
        """Stop all workers."""
        with self.change:
            self.closed = True
            self.change.notify_all()
        for process in list(self.processes):
            process.kill()
        for thread in self.threads:
            thread.join(5)
