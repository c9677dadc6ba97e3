"""What every machine is: processors, address spaces, a clock, and the loop in which all of it runs.

The thread in `Machine.run` is the machine thread. It runs the processor, or where there are several, each has a thread of its own and this
one does all else. Whoever is not in the guest's code holds the machine, one thread at a time; docs/architecture.md says more.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from exuvia.boot.image import must_be_readable
from exuvia.devices.device import Choice, Device, Property, Sink, configured, declared_properties
from exuvia.machines.config import MachineConfig
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from exuvia.support import log
from exuvia.support.errors import UserError
from exuvia.support.registry import Registry
from exuvia.vcpu.clock import Clock, Timer

LONGEST = 3600.0  # s of one sleep: a guest may arm a timer centuries ahead, for which Python's locks cannot wait
SWITCH_INTERVAL = 50e-6  # s; at Python's own 5 ms each return from native code could wait that long for another thread

Status = Literal["prelaunch", "running", "paused", "shutdown"]
A = TypeVar("A")
R = TypeVar("R")


class Vcpu(Protocol):
    """A processor as a machine sees it.

    A kick is remembered: one that comes while `run` is not active makes the next `run` return at once.
    """

    index: int
    halted: bool
    tick: Any  # what its interrupt controller may lend it (vcpu/tick.py), or None
    # `wake_at(ns or None)`, of those that have it, is a kick when the host's clock shows that; each call takes the place of the one before

    def run(self) -> None:
        """Until kicked, halted or the budget is spent."""

    def kick(self) -> None:
        """Leave native code soon; from any thread."""

    def signal(self, line: str, level: bool) -> None:
        """Drive an input, an interrupt line. Ends `halted` where the processor answers to it."""

    def reset(self) -> None:
        """As after power-on; processors other than the first wait until they are started."""

    def enter(self, entry: Any) -> None:
        """Take the state in which a loaded image begins."""


class VcpuFactory(Protocol):
    """What makes a machine's processors: `exuvia.vcpu.create`, or something else in a test.

    The machine gives `architecture`, `config` (accelerators, model, features), `memory`, `ports`, `ram` and `clock`; `controller` is the
    part of its interrupt controller that each processor has, or None.
    """

    def __call__(self, machine: Machine, index: int, controller: Any) -> Vcpu:
        """Processor number `index`. UserError when no accelerator or model of that name can be had."""


class _AlarmClock(Clock):
    """A clock that says when a timer was armed, so that the thread which watches the next deadline can look again."""

    def __init__(self, armed: Callable[[int], None], alone: bool) -> None:
        super().__init__()
        self._armed, self._alone = armed, alone

    def rest(self, ns: int) -> None:
        """Not where another processor waits for the machine meanwhile."""
        if self._alone:
            super().rest(ns)

    def _enter(self, at: int, timer: Timer) -> int:
        ticket = super()._enter(at, timer)
        self._armed(at)
        return ticket


class _Turns:
    """A lock that who waits gets before who had it last: a guest that does nothing but leave native code holds up no timer."""

    def __init__(self) -> None:
        self._lock, self._next = threading.Lock(), threading.Lock()

    def acquire(self, blocking: bool = True) -> bool:
        """As a Lock's."""
        if not self._next.acquire(blocking):
            return False
        try:
            return self._lock.acquire(blocking)
        finally:
            self._next.release()

    def release(self) -> None:
        """As a Lock's."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class Machine:
    """A computer. A subclass wires the devices in `__init__` and loads what is to run in `boot`.

    chardevs  the character backends by id, which the command line made and opens with `post`
    drives    the disks by id, which the command line opened and closes
    vcpus     makes the processors
    """

    name: ClassVar[str]
    description: ClassVar[str]
    architecture: ClassVar[str]
    """Of its processors: a folder of isa/."""
    levels: ClassVar[tuple[str, ...]] = ("sockets", "cores", "threads")
    """Of what `-smp` can say how its processors lie."""
    device_tree: ClassVar[bool] = False  # whether it gives its kernel one
    flash_banks: ClassVar[int] = 0
    hosts_calls: ClassVar[bool] = False  # whether its processors have calls for the host
    offers_files: ClassVar[bool] = False  # whether it has an fw_cfg
    properties: ClassVar[dict[str, Property[Any]]] = {}
    """What a user sets with `-machine NAME,property=value`; a subclass declares them as class attributes, as a device does."""

    usb = Choice("off", "there is no USB controller")
    graphics = Choice("off", "there is no screen")
    dump_guest_core = Property(bool, True, "the emulator's core dumps have the guest's memory")
    mem_merge = Property(bool, True, "no effect: Linux (KSM) does not merge pages of memory that can be shared, as the guest's can")

    def __init_subclass__(cls) -> None:
        cls.properties = declared_properties(cls)

    def __init__(
        self,
        config: MachineConfig,
        chardevs: Mapping[str, Any] | None = None,
        drives: Mapping[str, Any] | None = None,
        *,
        vcpus: VcpuFactory | None = None,
    ) -> None:
        self.config = config
        for option, path in (("-kernel", config.kernel), ("-bios", config.firmware), ("-dtb", config.dtb)):
            if path is not None:
                must_be_readable(option, path)
        if config.dtb is not None and not self.device_tree:
            raise UserError(f"-dtb: a {self.name} has no device tree")
        if config.semihosting is not None and not self.hosts_calls:
            raise UserError(f"-semihosting: the processors of a {self.name} have no calls for the host")
        if config.files and not self.offers_files:
            raise UserError(f"-fw_cfg: a {self.name} has no fw_cfg")
        for drive in config.drives:
            if drive.flash is not None and not self.flash_banks:
                raise UserError(f"{drive.option}: a {self.name} has no flash memory that a drive could be")
        for attribute, value in configured("-machine", self.properties, config.machine_options).items():
            setattr(self, attribute, value)
        self.chardevs: Mapping[str, Any] = chardevs or {}
        self.drives: Mapping[str, Any] = drives or {}
        self.semihosting: Any = None
        """The host's side of it (backends/semihosting.py), where the user asked for that."""
        self.free_memory = 0, 0
        """Where nothing was loaded: a stretch of RAM."""
        self.clock: Clock = _AlarmClock(self._armed, config.smp == 1)
        self.memory = AddressSpace("memory")
        self.ports = AddressSpace("ports")
        self.ram: Ram | None = None
        self.vcpus: list[Vcpu] = []
        self._factory = vcpus
        self._controllers: list[Any] = []
        self.accelerator = ""
        self.accelerated: dict[str, Any] = {}
        """By accelerator: what its processors share."""
        self.devices: dict[str, Device] = {}
        self.status: Status = "prelaunch"
        self._wake = threading.Condition()
        self._alarm: Callable[[int | None], None] | None = None  # of an only processor that has one
        self.at_end: list[Callable[[], object]] = []
        """What `run` calls when it ends, in the machine thread."""
        self._posted: deque[Callable[[], object]] = deque()
        self._current: Vcpu | None = None
        self._watched: int | None = None  # the virtual time at which the watcher kicks the running processor, or the loop wakes
        # what several processors need: a lock that whoever holds the machine has; one each that is taken while native code runs
        self._lock = _Turns()
        self._outside: dict[int, threading.Lock] = {}
        self._parks: list[threading.Condition] = []  # where their threads sleep
        self._rest = threading.Condition(self._lock)  # type: ignore[arg-type]  # told when a processor has stopped
        self._works: deque[Callable[[], object]] = deque()  # for when none runs
        self._alone = True  # none may run
        self._running = 0  # how many do
        self._failure: BaseException | None = None  # what ended one's thread
        self._turn = 0  # whose thread holds the machine
        self._reset_wanted = False
        self._shutdown_wanted = False
        self._exit_status: int | None = None
        self._closing = False

    def add(self, name: str, device: Device) -> None:
        """Keep `device` under a name of its own: it gets the clock, and is reset and saved with the machine."""
        if name in self.devices:
            raise ValueError(f"two devices are called {name}")
        device.clock, device.post = self.clock, self.post
        self.devices[name] = device

    def boot(self) -> None:
        """Put into memory what the first processor runs, and set that processor up. Called after every reset."""
        raise NotImplementedError

    def reset(self) -> None:
        """Devices and processors as after power-on, memory reloaded. In the machine thread, or before `run`."""
        for device in self.devices.values():
            device.reset()
        for vcpu in self.vcpus:
            vcpu.reset()
        self.boot()

    def make_processor(self, index: int, controller: Any = None) -> None:
        """Processor `index`; `controller` is its part of the interrupt controller."""
        factory = self._factory
        if factory is None:
            from exuvia.vcpu import create

            factory = create
        self._controllers.append(controller)
        self.install(factory(self, index, controller))

    def install(self, vcpu: Vcpu) -> None:
        """Put a processor into its place, or into another's."""
        self.vcpus[vcpu.index : vcpu.index + 1] = [vcpu]
        self._alarm, self._watched = getattr(vcpu, "wake_at", None) if self.config.smp == 1 else None, None
        self.connect(vcpu, self._controllers[vcpu.index])

    def connect(self, vcpu: Any, controller: Any) -> None:
        """Wire a processor that was put into its place."""

    def wire(self, index: int, line: str) -> Sink:
        """An input of processor `index`, whichever stands there."""

        def follow(level: bool) -> None:
            vcpu = self.vcpus[index]
            vcpu.signal(line, level)
            if level:
                self.attend(vcpu)

        return follow

    # Requests. Any thread may make them; the loop acts on them.

    def post(self, work: Callable[[], object]) -> None:
        """Have `work` run in the machine thread soon."""
        self._posted.append(work)
        self.kick()

    def kick(self) -> None:
        """Make the loop look at what was posted or requested."""
        with self._wake:
            self._wake.notify_all()
        current = self._current
        if current is not None:
            current.kick()
        elif self._wanted:
            self._kick_all()

    def alone(self, work: Callable[[], object]) -> None:
        """Have `work` run in the machine thread soon, while no processor runs; at once where none does. One that asks goes no instruction
        further before."""
        if self._alone:
            work()
        else:
            self._works.append(work)
            self.kick()

    def attend(self, vcpu: Vcpu) -> None:
        """`vcpu`, one of several, was given something to do. For who holds the machine."""
        if not vcpu.halted and vcpu.index < len(self._parks):
            self._parks[vcpu.index].notify()

    def apart(self, index: int, run: Callable[[A], R]) -> Callable[[A], R]:
        """`run` for processor `index`, one of several, that others get the machine meanwhile: it enters native code and nothing else."""
        outside, lock = self._outside.setdefault(index, threading.Lock()), self._lock

        def enter(argument: A) -> R:
            outside.acquire()
            lock.release()
            try:
                return run(argument)
            finally:
                outside.release()
                lock.acquire()
                self._turn = index

        return enter

    def outside(self, index: int) -> bool:
        """Is processor `index`, one of several, in native code? For who holds the machine."""
        return index in self._outside and self._outside[index].locked()

    def _kick_all(self) -> None:
        for vcpu in self.vcpus:
            vcpu.kick()

    def request_reset(self, reason: str = "requested") -> None:
        """Reset the machine; with -no-reboot, shut it down instead."""
        log.cpu_reset(f"reset: {reason}")
        if self.config.no_reboot:
            self._shutdown_wanted = True
        else:
            self._reset_wanted = True
        self.kick()

    def request_shutdown(self) -> None:
        """Power off: `run` returns 0; with -no-shutdown the machine stays, stopped."""
        self._shutdown_wanted = True
        self.kick()

    def exit(self, status: int) -> None:
        """Make `run` return `status`, whatever -no-shutdown says."""
        if self._exit_status is None:
            self._exit_status = status
        self.kick()

    def pause(self) -> None:
        """Stop the processors and virtual time."""
        self._request(lambda: self._stop("paused"))

    def resume(self) -> None:
        """Go on after `pause`; a machine that is shut down is reset first."""
        self._request(self._continue)

    def _request(self, work: Callable[[], object]) -> None:
        self._works.append(work)
        self.kick()

    def _stop(self, status: Status) -> None:
        if self.status == "running":
            self.clock.pause()
            self.status = status

    def _continue(self) -> None:
        if self.status == "shutdown":
            self.reset()
        self.clock.resume()
        self.status = "running"
        self._time_changed()

    def _time_changed(self) -> None:
        """The clock stood, and goes on."""
        with self._wake:  # the watcher sleeps while the clock stands
            self._wake.notify_all()
        if self._alarm is not None and self._watched is not None:
            self._alarm(self.clock.host_time(self._watched))

    @contextmanager
    def standstill(self) -> Iterator[None]:
        """Guest time stands while the host does what no computer does in between: compile what the processor needs next.

        For who holds the machine; the other processors leave native code and wait for it."""
        if not self.clock.running:
            yield
            return
        for index, outside in self._outside.items():
            if not outside.acquire(blocking=False):
                self.vcpus[index].kick()
                outside.acquire()
            outside.release()
        self.clock.pause()
        try:
            yield
        finally:
            self.clock.resume()
            self._time_changed()

    # The loop.

    def run(self) -> int:
        """Run until `exit` or the guest's power-off; the exit status. UserError when a reset finds that its kernel has gone."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        several = len(self.vcpus) > 1
        if several:
            self._parks = [threading.Condition(self._lock) for _ in self.vcpus]  # type: ignore[arg-type]
            threads = [
                threading.Thread(target=self._carry, args=place, name=f"cpu{place[0]}", daemon=True) for place in enumerate(self._parks)
            ]
        else:
            threads = [threading.Thread(target=self._watch, name="timer", daemon=True)]
        try:
            with self._lock:
                for thread in threads:
                    thread.start()
                self.reset()
                if not self.dump_guest_core and self.ram is not None:
                    self.ram.leave_out_of_cores()
                if self.config.paused:
                    self.status = "paused"
                else:
                    self._continue()
                self._disperse()
                while self._exit_status is None:
                    self._step()
                return self._exit_status
        finally:
            self._closing = True
            with self._lock:
                self._gather()
                if self.clock.running:
                    self.clock.pause()
                self._disperse()
            with self._wake:
                self._wake.notify_all()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            for end in self.at_end:
                end()
            sys.setswitchinterval(interval)

    @property
    def _wanted(self) -> bool:
        """Is there something that no processor may run for?"""
        requests = bool(self._works) or self._shutdown_wanted or self._reset_wanted
        return requests or self._exit_status is not None or self._failure is not None

    def _step(self) -> None:
        for _ in range(len(self._posted)):
            self._posted.popleft()()
        if self._wanted:
            self._gather()
            self._act()
            self._disperse()
        if self._exit_status is not None:
            return
        if self.status != "running":
            self._wait(None)
            return
        self.clock.run_due()
        vcpu = self.vcpus[0] if len(self.vcpus) == 1 else None
        if vcpu is None or vcpu.halted:
            self._wait(self.clock.next_deadline())
        else:
            self._execute(vcpu)

    def _act(self) -> None:
        """What was asked for, now that no processor runs."""
        if self._failure is not None:
            raise self._failure
        for _ in range(len(self._works)):
            self._works.popleft()()
        if self._shutdown_wanted:
            self._shutdown_wanted = self._reset_wanted = False
            if self.config.no_shutdown:
                self._stop("shutdown")
            else:
                self.exit(0)
        if self._reset_wanted:
            self._reset_wanted = False
            self.reset()

    def _execute(self, vcpu: Vcpu) -> None:
        """The only processor runs, in this thread."""
        self._current = vcpu
        self._watch_for(self.clock.next_deadline())
        # what came between the last look and the line that made the processor kickable
        if not (self._posted or self._wanted):
            vcpu.run()
        self._current = None

    def _wait(self, deadline: int | None) -> None:
        """Sleep until `deadline` (virtual ns), a request or posted work. One of several processors may arm a timer meanwhile."""
        several = bool(self._parks)
        if several:
            self._watched = deadline
        self._lock.release()
        try:
            with self._wake:
                if self._posted or self._wanted:
                    return
                if several:
                    deadline = self._watched
                timeout = None if deadline is None else (deadline - self.clock.now()) / 1e9
                if timeout is None or timeout > 0:
                    self._wake.wait(None if timeout is None else min(timeout, LONGEST))
        finally:
            self._lock.acquire()

    # Several processors: each in its thread.

    def _carry(self, index: int, park: threading.Condition) -> None:
        try:
            with self._lock:
                while not self._closing:
                    vcpu = self.vcpus[index]
                    if self._alone or self._wanted or self.status != "running" or vcpu.halted:
                        park.wait()
                        continue
                    self._turn = index
                    self._running += 1
                    try:
                        vcpu.run()
                    finally:
                        self._running -= 1
                        self._rest.notify()
                    self._lock.release()  # whoever waits is next
                    self._lock.acquire()
        except BaseException as error:  # the machine thread raises it
            self._failure = error
            self.kick()

    def _gather(self) -> None:
        """Until no processor runs."""
        self._alone = True
        if self._running:
            self._kick_all()
            while self._running:
                self._rest.wait()

    def _disperse(self) -> None:
        """Processors may run."""
        self._alone = False
        for park in self._parks:
            park.notify()

    # The watcher of an only processor that cannot look at the clock itself: a thread that kicks it when the next timer is due.

    def _armed(self, at: int) -> None:
        if (self._current is not None or self._parks) and (self._watched is None or at < self._watched):
            self._watch_for(at)

    def _watch_for(self, deadline: int | None) -> None:
        if self._alarm is not None:
            self._watched = deadline
            self._alarm(None if deadline is None else self.clock.host_time(deadline))
        elif deadline != self._watched:
            with self._wake:
                sooner = deadline is not None and (self._watched is None or deadline < self._watched)
                self._watched = deadline
                if sooner:  # a later one is found when the watcher wakes for the earlier one
                    self._wake.notify_all()

    def _watch(self) -> None:
        with self._wake:
            while not self._closing:
                deadline = self._watched
                if deadline is None or self._alarm is not None or not self.clock.running:
                    self._wake.wait()
                    continue
                left = deadline - self.clock.now()
                if left > 0:
                    self._wake.wait(min(left / 1e9, LONGEST))
                    continue
                self._watched = None
                current = self._current
                if current is not None:
                    current.kick()


machines: Registry[Machine] = Registry("exuvia.machines", Machine, "machine")
