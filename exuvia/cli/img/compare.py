"""compare: whether two images hold the same.

usage: exuvia-img compare [--object OBJECT] [--image-opts] [-f FMT] [-F FMT] [-T CACHE] [-p] [-q] [-s] [-U] FILENAME1 FILENAME2

-f, -F: the formats of the first and the second   -s: strict, sizes and what is allocated must be alike too
exit status: 0 the same, 1 different, 2 an image cannot be opened, 3 its tables or 4 its data cannot be read

example: exuvia-img compare disk.qcow2 disk.vmdk
"""

import sys

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.opening import open_named
from exuvia.cli.img.watch import Watch
from exuvia.cli.program import Wrong
from exuvia.disk.jobs.compare import Compare
from exuvia.disk.node import Node
from exuvia.support.errors import UserError

OPTIONS = "f= F= T= p q s force-share/U object= image-opts"
FAILED = 2


def run(arguments: Arguments) -> int:
    """Compare them."""
    if len(arguments.rest) != 2:
        raise Wrong("Expecting two image file names")
    described, share, cache = arguments.has("image-opts"), arguments.has("force-share"), arguments.value("T") or "writeback"

    def opened(name: str, format: str | None) -> Node:
        return open_named(name, format, described=described, share=share, cache=cache, what="source cache")

    with opened(arguments.rest[0], arguments.value("f")) as one, opened(arguments.rest[1], arguments.value("F")) as other:
        with Watch(arguments.has("p"), arguments.has("q")) as watch:
            job = Compare(one, other, arguments.has("s"))
            job.watch = watch
            return verdict(job, arguments.has("q"))


def verdict(job: Compare, quiet: bool) -> int:
    """Run the job and say what it found."""
    say = (lambda _: None) if quiet else print
    if job.strict and job.one.size != job.other.size:
        say("Strict mode: Image size mismatch!")
        return 1
    failed = None
    job.on_longer = lambda: say("Warning: Image size mismatch!")
    try:
        job.run()
    except UserError as error:
        failed = f"{error}"
    except OSError as error:
        failed = f"Error while reading offset {job.done} of {job.one.filename} or {job.other.filename}: {error.strerror}"
    if failed is not None:
        print(f"exuvia-img: {failed}", file=sys.stderr)
        return 4
    if job.status is not None:
        say(f"Strict mode: Offset {job.status} block status mismatch!")
    elif job.differs is not None:
        say(f"Content mismatch at offset {job.differs}!")
    else:
        say("Images are identical.")
        return 0
    return 1
