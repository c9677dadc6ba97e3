"""`-chardev null`: output vanishes, input never comes."""

from exuvia.backends.chardev.chardev import Chardev


class Null(Chardev):
    """A line that leads nowhere."""

    name = "null"

    def write(self, data: bytes) -> None:
        """Drop it."""
