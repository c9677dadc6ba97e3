"""check: look whether an image's tables make sense, and mend them.

usage: exuvia-img check [--object OBJECT] [--image-opts] [-q] [-f FMT] [--output=OFMT] [-r [leaks | all]] [-T CACHE] [-U] FILENAME

-r, --repair: leaks gives back room that nothing uses; all mends errors too
exit status: 0 sound, 1 could not be checked, 2 corrupt, 3 leaks only, 63 the format has no checks

example: exuvia-img check -r leaks disk.qcow2
"""

from __future__ import annotations

import sys

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.opening import open_named
from exuvia.cli.img.output import pretty
from exuvia.cli.program import Wrong
from exuvia.disk.format import Format, Found
from exuvia.disk.node import Unsupported
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONS = "q format/f= repair/r= output= T= force-share/U object= image-opts"
REPAIRS = {"leaks": (True, False), "all": (True, True)}


def run(arguments: Arguments) -> int:
    """Check it."""
    repair = arguments.value("repair")
    if repair is not None and repair not in REPAIRS:
        raise Wrong(f"Unknown option value for -r (expecting 'leaks' or 'all'): {repair}")
    json, name, quiet = arguments.json(), arguments.one(), arguments.has("q")
    cache = arguments.value("T") or "writeback"
    image = open_named(
        name,
        arguments.value("format"),
        described=arguments.has("image-opts"),
        writable=repair is not None,
        share=arguments.has("force-share"),
        chain=True,
        cache=cache,
        what="source cache",
    )
    with image:
        try:
            found = _check(image, *REPAIRS.get(repair or "", (False, False)))
            if found.corruptions_fixed or found.leaks_fixed:
                fixed = found
                if not json and not quiet:
                    print(
                        "The following inconsistencies were found and repaired:\n\n"
                        f"    {fixed.leaks_fixed} leaked clusters\n    {fixed.corruptions_fixed} corruptions\n\n"
                        "Double checking the fixed image now..."
                    )
                found = _check(image, False, False).replaced(leaks_fixed=fixed.leaks_fixed, corruptions_fixed=fixed.corruptions_fixed)
        except Unsupported:
            print("exuvia-img: This image format does not support checks", file=sys.stderr)
            return 63
        except UserError as error:
            raise UserError(f"Check failed: {error}") from None
        except OSError as error:
            raise UserError(f"Check failed: {error.filename or name}: {error.strerror}") from None
        if json:
            print(pretty(facts(name, image, found)))
        elif not quiet:
            print(readably(found), end="")
    return 1 if found.errors else 2 if found.corruptions else 3 if found.leaks else 0


def _check(image: Format, leaks: bool, errors: bool) -> Found:
    found = image.check(leaks, errors)
    sys.stdout.flush()
    for message in found.messages:
        print(message, file=sys.stderr)
    return found


def facts(name: str, image: Format, found: Found) -> dict[str, Any]:
    """QMP's ImageCheck."""
    optional = {
        "image-end-offset": found.end,
        "corruptions": found.corruptions,
        "leaks": found.leaks,
        "corruptions-fixed": found.corruptions_fixed,
        "leaks-fixed": found.leaks_fixed,
        "total-clusters": found.total,
        "allocated-clusters": found.allocated,
        "fragmented-clusters": found.fragmented,
        "compressed-clusters": found.compressed,
    }
    return {
        "filename": name,
        "format": image.name,
        "check-errors": found.errors,
        **{key: value for key, value in optional.items() if value},
    }


def readably(found: Found) -> str:
    """The same for people."""
    text = ""
    if not (found.corruptions or found.leaks or found.errors):
        text = "No errors were found on the image.\n"
    if found.corruptions:
        text += f"\n{found.corruptions} errors were found on the image.\n"
        text += "Data may be corrupted, or further writes to the image may corrupt it.\n"
    if found.leaks:
        text += f"\n{found.leaks} leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n"
    if found.errors:
        text += f"\n{found.errors} internal errors have occurred during the check.\n"
    if found.total and found.allocated:
        fragmented, compressed = ((part or 0) * 100 / found.allocated for part in (found.fragmented, found.compressed))
        share = found.allocated * 100 / found.total
        text += f"{found.allocated}/{found.total} = {share:.2f}% allocated, "
        text += f"{fragmented:.2f}% fragmented, {compressed:.2f}% compressed clusters\n"
    if found.end:
        text += f"Image end offset: {found.end}\n"
    return text
