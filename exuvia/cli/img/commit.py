"""commit: put what an image holds into the one that it stands on.

usage: exuvia-img commit [--object OBJECT] [--image-opts] [-q] [-f FMT] [-t CACHE] [-b BASE] [-r RATE] [-d] [-p] FILENAME

-b: into that image of the chain, which spoils those between   -d: do not empty FILENAME afterwards (-b implies it)
-r: bytes a second at most

example: exuvia-img commit overlay.qcow2
"""

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.opening import find_layer, open_named, set_cache
from exuvia.cli.img.sizes import number
from exuvia.cli.img.watch import Watch
from exuvia.disk.format import Format
from exuvia.disk.graph import reopen_backing
from exuvia.disk.jobs.commit import Commit, make_empty
from exuvia.support.errors import UserError

OPTIONS = "f= t= b= d p q r= object= image-opts"


def run(arguments: Arguments) -> int:
    """Commit it."""
    rate = number("rate limit", arguments.value("r") or "0")
    name, cache = arguments.one(), arguments.value("t") or "writeback"
    with open_named(name, arguments.value("f"), described=arguments.has("image-opts"), writable=True, cache=cache) as top:
        wanted = arguments.value("b")
        base = top.backing if wanted is None else find_layer(top, wanted)
        if base is None:
            raise UserError(
                "Image does not have a backing file" if wanted is None else f"Did not find '{wanted}' in the backing chain of '{name}'"
            )
        assert isinstance(base, Format)
        base = reopen_backing(top, base)
        set_cache(base, cache)
        with Watch(arguments.has("p"), arguments.has("q")) as watch:
            job = Commit(top, base)
            job.speed, job.watch = rate, watch
            try:
                job.run()
                watch.share(1.0)
                if not arguments.has("d") and wanted is None:
                    make_empty(top)
            except OSError as error:
                raise UserError(f"{name}: Could not commit to '{base.filename}': {error.strerror or error}") from None
    if not arguments.has("q"):
        print("Image committed.")
    return 0
