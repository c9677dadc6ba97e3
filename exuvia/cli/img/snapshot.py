"""snapshot: list, make, apply or delete the snapshots inside an image.

usage: exuvia-img snapshot [--object OBJECT] [--image-opts] [-U] [-q] [-l | -a SNAPSHOT | -c SNAPSHOT | -d SNAPSHOT] FILENAME

-l: list   -c: make one of what the image holds now   -a: go back to it   -d: delete it

example: exuvia-img snapshot -c before-upgrade disk.qcow2
"""

import time

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.info import snapshot_facts, table
from exuvia.cli.img.opening import open_named
from exuvia.cli.program import Wrong
from exuvia.disk.format import Format, Snapshot
from exuvia.disk.node import Unsupported
from exuvia.support.errors import UserError

OPTIONS = "a= c= d= l q force-share/U object= image-opts"


def run(arguments: Arguments) -> int:
    """Do the one thing."""
    actions = [(option, value) for option, value in arguments.given if option in "acdl"]
    if len(actions) > 1:
        raise Wrong("Cannot mix '-l', '-a', '-c', '-d'")
    name = arguments.one()
    action, which = actions[0] if actions else ("", "")
    image = open_named(
        name,
        described=arguments.has("image-opts"),
        writable=action not in ("", "l"),
        share=arguments.has("force-share"),
        chain=action != "l",
    )
    with image:
        match action:
            case "l":
                if found := image.snapshots():
                    print(table([snapshot_facts(each) for each in found]), end="")
            case "c":
                create(image, which)
            case "a":
                apply(image, which)
            case "d":
                delete(image, which)
    return 0


def create(image: Format, name: str) -> None:
    """-c"""
    now = time.time_ns()
    snapshot = Snapshot("", name, 0, now // 10**9, now // 1000 % 10**6 * 1000, 0, 0)
    try:
        image.create_snapshot(snapshot)
    except OSError as error:
        raise UserError(f"Could not create snapshot '{name}': {-(error.errno or 0)} ({error.strerror})") from None


def apply(image: Format, name: str) -> None:
    """-a"""
    failed = f"Could not apply snapshot '{name}': "
    if not image.can_snapshot():
        raise UserError(failed + "Block driver does not support snapshots")
    if any(bitmap.enabled for bitmap in image.bitmaps()):
        raise UserError(failed + "Device has active dirty bitmaps")
    found = find(image, name)
    if found is None:
        raise UserError(failed + "Failed to load snapshot: No such file or directory")
    try:
        image.apply_snapshot(found)
    except (OSError, Unsupported) as error:
        raise UserError(f"{failed}{error}") from None


def delete(image: Format, name: str) -> None:
    """-d, of names only, as QEMU has it."""
    found = next((each for each in image.snapshots() if each.name == name), None)
    if found is None:
        raise UserError(f"Could not delete snapshot '{name}': snapshot not found")
    try:
        image.delete_snapshot(found)
    except (OSError, Unsupported) as error:
        raise UserError(f"Could not delete snapshot '{name}': {error}") from None


def find(image: Format, name: str) -> Snapshot | None:
    """The snapshot with this id, else the one with this name."""
    found = image.snapshots()
    return next((each for each in found if each.id == name), None) or next((each for each in found if each.name == name), None)
