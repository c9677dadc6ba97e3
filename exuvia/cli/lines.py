"""The character backends of one run: made from the configuration, handed to devices by id, opened and closed together."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from exuvia.backends.chardev.chardev import Chardev, Post, chardevs
from exuvia.backends.chardev.mux import Mux, MuxPort
from exuvia.machines.config import ChardevConfig
from exuvia.support.errors import UserError


class Lines(Mapping[str, Chardev]):
    """The backends by id. A look-up is a use: a backend has one user, one with mux=on as many as want it, each with a port of its own."""

    def __init__(self, configs: Iterable[ChardevConfig], on_quit: Callable[[], object]) -> None:
        self._backends: dict[str, Chardev] = {}
        self._muxes: dict[str, Mux] = {}
        self._used: set[str] = set()
        for config in configs:
            if config.id in self._backends:
                raise UserError(f"there are two chardevs '{config.id}'")
            backend = chardevs[config.kind](config.id, dict(config.options))
            self._backends[config.id] = backend
            if "mux" in backend.options and backend.switch("mux", False):
                self._muxes[config.id] = Mux(backend, on_quit)

    def add(self, backend: Chardev) -> None:
        """A backend that the command made itself."""
        self._backends[backend.id] = backend

    def __getitem__(self, id: str) -> Chardev:
        """The backend for one more user; raises UserError when it has one already."""
        if id in self._muxes:
            return self._muxes[id].port(id)
        backend = self._backends[id]
        if id in self._used:
            raise UserError(f"chardev '{id}' is in use (mux=on lets several share it)")
        self._used.add(id)
        return backend

    def __contains__(self, id: object) -> bool:
        return id in self._backends

    def __iter__(self) -> Iterator[str]:
        return iter(self._backends)

    def __len__(self) -> int:
        return len(self._backends)

    def shared(self, id: str) -> Mux | None:
        """The multiplexer of a backend with mux=on."""
        return self._muxes.get(id)

    def on_focus(self, id: str, port: Chardev, call: Callable[[], object]) -> None:
        """Have `call` run whenever `port` of the multiplexer `id` gets the keyboard."""

        def focused(chosen: MuxPort) -> None:
            if chosen is port:
                call()

        self._muxes[id].on_focus = focused

    def open(self, post: Post) -> None:
        """Open all of them."""
        for backend in self._backends.values():
            backend.open(post)

    def close(self) -> None:
        """Close all of them."""
        for backend in reversed(self._backends.values()):
            backend.close()
