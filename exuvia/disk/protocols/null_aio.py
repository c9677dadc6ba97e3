"""null-aio: null-co under the other name that QEMU has."""

from exuvia.disk.protocols.null_co import NullCo


class NullAio(NullCo):
    """All requests are asynchronous here."""

    name = "null-aio"
    schemes = ("null-aio",)
