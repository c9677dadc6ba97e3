"""`-chardev file`: output goes to a file."""

from io import FileIO

from exuvia.backends.chardev.chardev import Chardev, Post
from exuvia.support.errors import UserError


class File(Chardev):
    """A file that the guest's output is written to, unbuffered, so that it is complete at any moment."""

    name = "file"
    options = {"path": "the file to write", "append": "on: keep what the file has (default off)"}

    def __init__(self, id: str, options: dict[str, str] | None = None) -> None:
        super().__init__(id, options)
        if not self.given.get("path"):
            raise UserError("chardev file needs path=FILE")
        self.path, self.append = self.given["path"], self.switch("append", False)
        self._file: FileIO | None = None
        self._failed = False

    def open(self, post: Post) -> None:
        """Create or open the file; raises UserError when that fails."""
        super().open(post)
        try:
            self._file = FileIO(self.path, "ab" if self.append else "wb")
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {error.strerror}") from None

    def write(self, data: bytes) -> None:
        """Append to the file. A full disk loses output, it does not stop the guest; the first time it is said on standard error."""
        if self._file is None:
            return
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            if not self._failed:
                import sys

                print(f"exuvia: cannot write to {self.path}: {error.strerror}; output is lost", file=sys.stderr)
            self._failed = True

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
