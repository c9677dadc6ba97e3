"""What a device is made of: registers, further state, wires, alarms and the properties that a user sets.

A device declares them as class attributes; dispatch, reset, save and load derive from the declarations.
"""

import copy
import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar, overload

from exuvia.support import log
from exuvia.support.bits import Field
from exuvia.support.errors import UserError, unknown
from exuvia.support.registry import Registry

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Sink = Callable[[bool], object]


class Alarmed(Protocol):
    """A timer of the clock, see docs/architecture.md."""

    @property
    def deadline(self) -> int | None: ...
    def set(self, at: int) -> None: ...
    def cancel(self) -> None: ...


class Timekeeper(Protocol):
    """The clock as devices see it: nanoseconds of virtual time."""

    def now(self) -> int: ...
    def rest(self, ns: int) -> None: ...
    def timer(self, callback: Callable[[], None], /) -> Alarmed: ...


class Word(int):
    """A register's value; its declared fields are attributes."""

    fields: ClassVar[dict[str, Field]] = {}

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> int: ...

    @classmethod
    def of(cls, fields: dict[str, Field]) -> "type[Word]":
        """The class of values that have these fields."""
        return type("Word", (cls,), {"fields": fields, "__slots__": ()} | {name: _getter(field) for name, field in fields.items()})

    def replace(self, **values: int) -> "Word":
        """The value with the named fields changed; raises ValueError when one does not fit."""
        word = int(self)
        for name, value in values.items():
            word = self.fields[name].insert(word, int(value))
        return type(self)(word)


def _getter(field: Field) -> property:
    low, mask = field.low, (1 << field.width) - 1
    return property(lambda word: word >> low & mask)


class Reg:
    """A register at byte `offset`, `width` bits (8, 16, 32, 64) wide, with named fields (`dlab=bit[7]`).

    On a device it is the stored value, a Word; assigning stores. A guest's write stores the bits in `writable` and clears those that it
    wrote as one in `clear` (write-one-to-clear), unless a callback set with `@reg.write` takes the value instead; a guest's read gives the
    stored value unless `@reg.read` answers. `offset` None: a register that no address reaches directly (behind an index, or not at all).
    """

    native: ClassVar[bool] = False  # do processors know it (devices/polled.py, devices/posted.py)?

    def __init__(
        self, offset: int | None = None, width: int = 8, reset: int = 0, *, writable: int | None = None, clear: int = 0, **fields: Field
    ) -> None:
        if width not in (8, 16, 32, 64):
            raise ValueError(f"a register of {width} bits")
        self.mask = (1 << width) - 1
        if reset & ~self.mask or any(field.high >= width for field in fields.values()):
            raise ValueError(f"a reset value or a field does not fit in {width} bits")
        self.offset, self.width, self.reset, self.fields, self.clear = offset, width, reset, fields, clear
        self.writable = (self.mask if writable is None else writable) & ~clear
        self.word: type[Any] = Word.of(fields) if fields else int
        self.name = ""
        self._reader: Callable[[Any], int] | None = None
        self._writer: Callable[[Any, Any], object] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, device: None, owner: type) -> Self: ...
    @overload
    def __get__(self, device: "Device", owner: type) -> Word: ...
    def __get__(self, device: "Device | None", owner: type) -> Self | Word:
        return self if device is None else device._registers[self.name]

    def __set__(self, device: "Device", value: int) -> None:
        device._registers[self.name] = self.word(value & self.mask)

    def read(self, callback: F) -> F:
        """Decorator: `callback(self)` answers a guest's read."""
        self._reader = callback
        return callback

    def write(self, callback: F) -> F:
        """Decorator: `callback(self, value)` takes a guest's write; `value` is a Word."""
        self._writer = callback
        return callback

    def places(self, device: "Device") -> tuple[int, int]:
        """Of one that is `native`: the host's addresses of its value and of the ring that takes what is written; 0: there is none."""
        raise NotImplementedError

    def fetch(self, device: "Device") -> int:
        """What a guest's read of the whole register gives."""
        return device._registers[self.name] if self._reader is None else int(self._reader(device)) & self.mask

    def store(self, device: "Device", value: int) -> None:
        """A guest's write of the whole register."""
        value &= self.mask
        if self._writer is not None:
            self._writer(device, self.word(value))
        else:
            held = device._registers[self.name]
            device._registers[self.name] = self.word(((held & ~self.writable) | (value & self.writable)) & ~(value & self.clear))


class State(Generic[T]):
    """State that is no register: bool, int, str, bytes, bytearray, deque, or lists and dicts of these, starting as a copy of `default`.

    With `keep` it survives a reset (a battery-backed memory).
    """

    def __init__(self, default: T, *, keep: bool = False) -> None:
        self.default, self.keep = default, keep

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, device: None, owner: type) -> "State[T]": ...
    @overload
    def __get__(self, device: "Device", owner: type) -> T: ...
    def __get__(self, device: "Device | None", owner: type) -> "State[T] | T":
        if device is not None:
            raise AttributeError(self.name)
        return self

    def initial(self) -> T:
        """A fresh copy of the default."""
        return copy.deepcopy(self.default)


class Wire:
    """An output of a device: remembers its level and tells every connected sink when it changes."""

    def __init__(self) -> None:
        self.level = False
        self._sinks: list[Sink] = []

    def connect(self, sink: Sink) -> None:
        """Let `sink(level)` follow this wire; it is told at once when the wire is high."""
        self._sinks.append(sink)
        if self.level:
            sink(True)

    def set(self, level: bool) -> None:
        """Drive the wire."""
        level = bool(level)
        if level != self.level:
            self.level = level
            for sink in self._sinks:
                sink(level)

    def pulse(self) -> None:
        """High and low again: an edge."""
        self.set(True)
        self.set(False)


class Irq:
    """Declares an output wire: on a device it is a Wire."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, device: None, owner: type) -> "Irq": ...
    @overload
    def __get__(self, device: "Device", owner: type) -> Wire: ...
    def __get__(self, device: "Device | None", owner: type) -> "Irq | Wire":
        if device is None:
            return self
        wire = device.__dict__[self.name] = Wire()
        return wire


class WiredOr:
    """Several sources on one line: the sink is high while any of them is (shared, level-triggered interrupts)."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._high: set[int] = set()
        self._count = 0

    def input(self) -> Sink:
        """A new source's end of the line."""
        number = self._count
        self._count += 1

        def follow(level: bool) -> None:
            before = bool(self._high)
            (self._high.add if level else self._high.discard)(number)
            if before != bool(self._high):
                self._sink(not before)

        return follow


class AlarmTimer:
    """A device's alarm: a timer of its clock that reset disarms and that is saved with the device. Times are virtual ns."""

    def __init__(self, device: "Device", callback: Callable[[Any], None]) -> None:
        self._device, self._callback = device, callback
        self._timer: Alarmed | None = None

    @property
    def deadline(self) -> int | None:
        """When it is due, None when it is not armed."""
        return None if self._timer is None else self._timer.deadline

    def set(self, at: int) -> None:
        """Arm, or arm again, for virtual time `at`."""
        if self._timer is None:
            self._timer = self._device.clock.timer(self.rings)
        self._timer.set(at)

    def cancel(self) -> None:
        """Disarm."""
        if self._timer is not None:
            self._timer.cancel()

    def run_on(self, timer: Alarmed | None) -> None:
        """Have another timer do it, which calls `rings`; None for the clock's again."""
        deadline = self.deadline
        self.cancel()
        self._timer = timer
        if deadline is not None:
            self.set(deadline)

    def rings(self) -> None:
        """The alarm is due."""
        self._callback(self._device)


class Alarm:
    """Declares an alarm by the method that runs when it is due: `tick = Alarm(on_tick)` or as its decorator. On a device, an AlarmTimer."""

    def __init__(self, callback: Callable[[Any], None]) -> None:
        self._callback = callback

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, device: None, owner: type) -> "Alarm": ...
    @overload
    def __get__(self, device: "Device", owner: type) -> AlarmTimer: ...
    def __get__(self, device: "Device | None", owner: type) -> "Alarm | AlarmTimer":
        if device is None:
            return self
        made = device.__dict__[self.name] = AlarmTimer(device, self._callback)
        return made


class Property(Generic[T]):
    """A setting of the user's: `-device NAME,property=value`. `type` is bool, int or str; sizes may end in K, M, G, T.

    On a device, or a machine, it is the value. The user's word for it is the attribute's name, with `-` for `_`, unless `name` says
    otherwise.
    """

    def __init__(self, type: Callable[..., T], default: T, help: str, *, name: str = "") -> None:
        self.type, self.default, self.help, self.name = type, default, help, name

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name
        self.name = self.name or name.replace("_", "-")

    @overload
    def __get__(self, device: None, owner: type) -> "Property[T]": ...
    @overload
    def __get__(self, device: object, owner: type) -> T: ...
    def __get__(self, device: object | None, owner: type) -> "Property[T] | T":
        return self if device is None else self.default

    def parse(self, text: str) -> Any:
        """The value that the user's `text` means; raises UserError when it means none."""
        if self.type is bool:
            if text.lower() not in ("on", "yes", "true", "off", "no", "false"):
                raise UserError(f"property '{self.name}' is on or off, not '{text}'")
            return text.lower() in ("on", "yes", "true")
        if self.type is int:
            match = re.fullmatch(r"(0[xX][0-9a-fA-F]+|[0-9]+)([kKmMgGtT]?)", text)
            if not match:
                raise UserError(f"property '{self.name}' is a number, not '{text}'")
            return int(match[1], 0 if match[1][:2] in ("0x", "0X") else 10) << 10 * " kmgt".index(match[2].lower() or " ")
        return text


class Choice(Property[str]):
    """A property that is one of a few words, `default` or one of `others`; with no others there is nothing to choose, and `help` says why.

    yes and true are on, no and false are off.
    """

    def __init__(self, default: str, help: str, *others: str, name: str = "") -> None:
        super().__init__(str, default, help, name=name)
        self.words = (default, *others)

    def parse(self, text: str) -> str:
        """One of the words; raises UserError for another."""
        word = {"yes": "on", "true": "on", "no": "off", "false": "off"}.get(text.lower(), text)
        if word not in self.words:
            *first, last = filter(None, self.words)
            raise UserError(f"{self.name} is {', '.join(first)}{' or ' if first else ''}{last}, not '{text}': {self.help}")
        return word


class Backend(Property[Any]):
    """A property that names something of the host's side (`chardev=ID`); the machine puts the object in the attribute. None: absent.

    `of` is where the machine finds it: its `chardevs` or `drives`.

    `@backend.attached` makes `callback(self)` run when that happens.
    """

    def __init__(self, help: str = "the ID of the backend", of: str = "chardevs") -> None:
        super().__init__(str, None, help)
        self.of = of
        self._callback: Callable[[Any], object] | None = None

    def attached(self, callback: F) -> F:
        """Decorator: `callback(self)` runs when an object was put in the attribute."""
        self._callback = callback
        return callback

    def __get__(self, device: object | None, owner: type) -> Any:
        return self if device is None else device.__dict__.get(self.attribute)

    def __set__(self, device: "Device", value: Any) -> None:
        device.__dict__[self.attribute] = value
        if value is not None and self._callback is not None:
            self._callback(device)


def declared_properties(kind: type) -> dict[str, Property[Any]]:
    """What a class and its bases declare, by the user's words."""
    declared: dict[str, object] = {}
    for base in reversed(kind.__mro__):
        declared.update(vars(base))
    return {value.name: value for value in declared.values() if isinstance(value, Property)}


def configured(owner: str, known: dict[str, Property[Any]], options: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The user's `options` by attribute; raises UserError for an unknown property of `owner` or a bad value."""
    parsed = {}
    for key, text in options:
        found = known.get(key.replace("_", "-"))
        if found is None:
            raise unknown(f"property of {owner}", key, known)
        try:
            parsed[found.attribute] = found.parse(text)
        except UserError as error:
            raise UserError(f"{owner}: {error}") from None
    return parsed


class Device:
    """The base of every device. `clock` may be set later; alarms need it from the first one that is armed. `post(work)` has `work` run in
    the machine thread, from whichever thread.

    `name` is the word after `-device`, `plugs_into` its kind of bus (`sysbus`: the machine's own, not for the user), `window` the number of
    bytes that it decodes, `accesses` the access sizes in bytes that it takes, ascending: a larger access is split into the largest, a
    smaller one is a guest error. An access that covers several registers is split, one that covers part of one reads or merges that part.
    """

    name: ClassVar[str]
    plugs_into: ClassVar[str] = "sysbus"
    window: ClassVar[int] = 0
    accesses: ClassVar[tuple[int, ...]] = (1, 2, 4, 8)
    registers: ClassVar[dict[str, Reg]] = {}
    properties: ClassVar[dict[str, Property[Any]]] = {}
    _states: ClassVar[dict[str, State[Any]]] = {}
    _wires: ClassVar[tuple[str, ...]] = ()
    _alarms: ClassVar[tuple[str, ...]] = ()
    _parts: ClassVar[dict[int, tuple[Reg, int, int]]] = {}  # offset << 4 | size of accesses within one register -> it, shift, mask
    _bytes: ClassVar[dict[int, Reg]] = {}
    _native: ClassVar[list[Reg]] = []

    clock: Timekeeper
    post: Callable[[Callable[[], object]], object]

    def __init_subclass__(cls) -> None:
        declared: dict[str, object] = {}
        for base in reversed(cls.__mro__):
            declared.update(vars(base))
        cls.registers = {name: value for name, value in declared.items() if isinstance(value, Reg)}
        cls.properties = declared_properties(cls)
        cls._states = {name: value for name, value in declared.items() if isinstance(value, State)}
        cls._wires = tuple(name for name, value in declared.items() if isinstance(value, Irq))
        cls._alarms = tuple(name for name, value in declared.items() if isinstance(value, Alarm))
        cls._parts, cls._bytes, cls._native = {}, {}, []
        for name, register in cls.registers.items():
            if register.offset is None:
                continue
            if register.native and cls.accesses[0] == 1:
                cls._native.append(register)
            size = register.width // 8
            for offset in range(register.offset, register.offset + size):
                if offset in cls._bytes:
                    raise TypeError(f"{cls.__name__}: registers {cls._bytes[offset].name} and {name} overlap at {offset:#x}")
                cls._bytes[offset] = register
            for part in (1, 2, 4, 8):
                if cls.accesses[0] <= part <= cls.accesses[-1]:
                    for at in range(size - part + 1):
                        cls._parts[register.offset + at << 4 | part] = register, 8 * at, (1 << 8 * part) - 1
        if "window" not in vars(cls) and cls._bytes:
            cls.window = max(cls.window, max(cls._bytes) + 1)

    def __init__(self, clock: Timekeeper | None = None, **properties: Any) -> None:
        """Raises TypeError for a property that the device does not have; user's text goes through `configure` instead."""
        if clock is not None:
            self.clock = clock
        self._registers: dict[str, Any] = {}
        for name, state in self._states.items():
            setattr(self, name, state.initial())
        Device.reset(self)
        for name, value in properties.items():
            if not isinstance(getattr(type(self), name, None), Property):
                raise TypeError(f"{type(self).__name__} has no property {name}")
            setattr(self, name, value)

    @classmethod
    def configure(cls, options: dict[str, str]) -> dict[str, Any]:
        """The user's `options` as keyword arguments for the constructor; raises UserError for an unknown property or a bad value."""
        return configured(cls.name, cls.properties, options.items())

    @classmethod
    def help(cls) -> str:
        """The lines of `-device NAME,help`: what it is, and its properties with their defaults."""
        lines = [f"{cls.name}: {(cls.__doc__ or '').strip().splitlines()[0]}"]
        for name, prop in cls.properties.items():
            default = {True: "on", False: "off"}.get(prop.default, prop.default) if prop.type is bool else prop.default
            kind = (
                "/".join(filter(None, prop.words))
                if isinstance(prop, Choice)
                else "on/off"
                if prop.type is bool
                else "number"
                if prop.type is int
                else "text"
            )
            shown = "" if default is None else f" (default {default:#x})" if prop.type is int and default > 9 else f" (default {default})"
            lines.append(f"  {name + '=' + kind:<24} {prop.help}{shown}")
        return "\n".join(lines) + "\n"

    def reset(self) -> None:
        """As after power-on: registers and state at their defaults, wires low, alarms disarmed."""
        for register in self.registers.values():
            register.__set__(self, register.reset)
        for name, state in self._states.items():
            if not state.keep:
                setattr(self, name, state.initial())
        for name in self._wires:
            getattr(self, name).set(False)
        for name in self._alarms:
            getattr(self, name).cancel()

    def save(self) -> dict[str, Any]:
        """The device's state as JSON-like data, by attribute name."""
        saved: dict[str, Any] = {name: int(value) for name, value in self._registers.items()}
        saved.update({name: _plain(getattr(self, name)) for name in self._states})
        saved.update({name: getattr(self, name).level for name in self._wires})
        saved.update({name: getattr(self, name).deadline for name in self._alarms})
        return saved

    def load(self, saved: dict[str, Any]) -> None:
        """Take the state that `save` gave; raises KeyError when something is missing. Connected sinks see the wires change."""
        for name, register in self.registers.items():
            register.__set__(self, saved[name])
        for name, state in self._states.items():
            setattr(self, name, _restored(saved[name], state.default))
        for name in self._wires:
            getattr(self, name).set(saved[name])
        for name in self._alarms:
            if saved[name] is None:
                getattr(self, name).cancel()
            else:
                getattr(self, name).set(saved[name])

    def native_registers(self) -> "list[tuple[int, Reg, Device]]":
        """Registers that processors read or write without asking: their offsets too."""
        return [(register.offset or 0, register, self) for register in self._native]

    def read(self, offset: int, size: int) -> int:
        """A guest's read of `size` (1, 2, 4, 8) bytes."""
        part = self._parts.get(offset << 4 | size)
        if part is None:
            return self._read_odd(offset, size)
        register, shift, mask = part
        return register.fetch(self) >> shift & mask

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write of `size` (1, 2, 4, 8) bytes."""
        part = self._parts.get(offset << 4 | size)
        if part is None:
            self._write_odd(offset, size, value)
            return
        register, shift, mask = part
        register.store(self, value if mask == register.mask else self._merged(register, shift, mask, value))

    def _merged(self, register: Reg, shift: int, mask: int, value: int) -> int:
        """The register with a part of it written; bits that a one clears stay as they are elsewhere."""
        before: int = self._registers[register.name]
        return before & ~(mask << shift) & ~register.clear | (value & mask) << shift

    def _read_odd(self, offset: int, size: int) -> int:
        if size > self.accesses[-1]:
            step = self.accesses[-1]
            return sum(self.read(offset + at, step) << 8 * at for at in range(0, size, step))
        result, at, known = 0, 0, False
        while at < size >= self.accesses[0]:
            register = self._bytes.get(offset + at)
            if register is None or register.offset is None:
                result |= 0xFF << 8 * at
                at += 1
                continue
            known = True
            skip = offset + at - register.offset
            count = min(register.width // 8 - skip, size - at)
            result |= (register.fetch(self) >> 8 * skip & (1 << 8 * count) - 1) << 8 * at
            at += count
        if known:
            return result
        log.guest_errors(f"{self.name}: read of {size} from {offset:#x}, where no register is")
        return (1 << 8 * size) - 1

    def _write_odd(self, offset: int, size: int, value: int) -> None:
        if size > self.accesses[-1]:
            step = self.accesses[-1]
            for at in range(0, size, step):
                self.write(offset + at, step, value >> 8 * at & (1 << 8 * step) - 1)
            return
        at, known = 0, False
        while at < size >= self.accesses[0]:
            register = self._bytes.get(offset + at)
            if register is None or register.offset is None:
                at += 1
                continue
            known = True
            skip = offset + at - register.offset
            count = min(register.width // 8 - skip, size - at)
            register.store(self, self._merged(register, 8 * skip, (1 << 8 * count) - 1, value >> 8 * at))
            at += count
        if not known:
            log.guest_errors(f"{self.name}: write of {size} to {offset:#x} = {value:#x}, where no register is")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, list | tuple | deque):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _restored(value: Any, default: Any) -> Any:
    if isinstance(default, bytes | bytearray):
        return type(default).fromhex(value)
    if isinstance(default, deque):
        return deque(value, default.maxlen)
    if isinstance(default, tuple):
        return tuple(value)
    return copy.deepcopy(value)


devices: Registry[Device] = Registry("exuvia.devices", Device, "device")
