"""info: what an image is: format, sizes, backing file, snapshots.

usage: exuvia-img info [--object OBJECT] [--image-opts] [-f FMT] [--output=OFMT] [--backing-chain] [-U] FILENAME

--backing-chain: the images that it stands on as well.

example: exuvia-img info --output=json disk.qcow2
"""

from __future__ import annotations

import time

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.opening import open_named
from exuvia.cli.img.output import flat, listed, pretty, readable
from exuvia.disk.filter import Filter
from exuvia.disk.format import Format, Snapshot
from exuvia.disk.formats.raw import Raw
from exuvia.disk.graph import beside, describe
from exuvia.disk.node import Node
from exuvia.disk.protocols.file import File
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONS = "format/f= output= backing-chain force-share/U object= image-opts"

TELLING = ("offset", "size", "key-secret", "data-file")  # options without which the image would be another


def run(arguments: Arguments) -> int:
    """Print what was asked for."""
    json, name = arguments.json(), arguments.one()
    described, format = arguments.has("image-opts"), arguments.value("format")
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    following: str | None = name
    while following is not None:
        if following in seen:
            raise UserError(f"Backing file '{following}' creates an infinite loop.")
        seen.add(following)
        with open_named(following, format, described=described, share=arguments.has("force-share"), chain=False, locked=True) as image:
            found.append(facts(image))
        described = False
        following, format = (found[-1].get(key) for key in ("full-backing-filename", "backing-filename-format"))
        if not arguments.has("backing-chain"):
            break
    if json:
        print(pretty(found if arguments.has("backing-chain") else found[0]))
    else:
        print("\n".join(map(readably, found)), end="")
    return 0


def facts(image: Format) -> dict[str, Any]:
    """QMP's ImageInfo."""
    info: dict[str, Any] = {"filename": exact_name(image), "format": image.name, "virtual-size": image.size}
    room = allocated(image)
    if room is not None:
        info["actual-size"] = room
    if image.encrypted:
        info["encrypted"] = True
    if image.dirty is not None and (image.name != "raw" or tells_of_itself(image.file)):
        if image.cluster:
            info["cluster-size"] = image.cluster
        info["dirty-flag"] = image.dirty
    if specific := image.info():
        info["format-specific"] = {"type": image.name, "data": specific}
    if image.backing_file:
        info["backing-filename"] = image.backing_file
        info["full-backing-filename"] = beside(image.filename, image.backing_file)
        if image.backing_format:
            info["backing-filename-format"] = image.backing_format
    if snapshots := image.snapshots():
        info["snapshots"] = [snapshot_facts(each) for each in snapshots]
    return info


def tells_of_itself(node: Node) -> bool:
    """Whether what holds a raw image says more of it than its size, as files and devices of the host do."""
    return isinstance(node, File) or (isinstance(node, Filter | Raw) and tells_of_itself(node.file))


def exact_name(image: Format) -> str:
    """How QEMU would name it: the file's name where that says all, else `json:{…}`."""
    own = getattr(image.file, "exact", None)
    said = {key: value for key, value in image.said.items() if key in TELLING or key.startswith("encrypt.")}
    if own is None and not said:
        return image.filename
    return f"json:{flat({**said, 'driver': image.name, 'file': own() if own else describe(image.file.filename)})}"


def allocated(node: Node) -> int | None:
    """Bytes of the host's disk that the image takes, None where nobody knows."""
    own = getattr(node, "allocated", None)
    if own is not None:
        return int(own())
    rooms = [allocated(child) for role, child in node.children() if role != "backing"]
    return sum(room for room in rooms if room is not None) if any(room is not None for room in rooms) else None


def snapshot_facts(snapshot: Snapshot) -> dict[str, Any]:
    """QMP's SnapshotInfo."""
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "vm-state-size": snapshot.vm_state,
        "date-sec": snapshot.seconds,
        "date-nsec": snapshot.nanoseconds,
        "vm-clock-sec": snapshot.clock // 10**9,
        "vm-clock-nsec": snapshot.clock % 10**9,
        **({} if snapshot.icount is None else {"icount": snapshot.icount}),
    }


def readably(info: dict[str, Any]) -> str:
    """ImageInfo for people."""
    room, size = info.get("actual-size"), info["virtual-size"]
    lines = [
        f"image: {info['filename']}",
        f"file format: {info['format']}",
        f"virtual size: {readable(size)} ({size} bytes)",
        f"disk size: {'unavailable' if room is None else readable(room)}",
    ]
    if info.get("encrypted"):
        lines.append("encrypted: yes")
    if "cluster-size" in info:
        lines.append(f"cluster_size: {info['cluster-size']}")
    if info.get("dirty-flag"):
        lines.append("cleanly shut down: no")
    if "backing-filename" in info:
        name, full = info["backing-filename"], info["full-backing-filename"]
        lines.append(f"backing file: {name}" + (f" (actual path: {full})" if full != name else ""))
        if "backing-filename-format" in info:
            lines.append(f"backing file format: {info['backing-filename-format']}")
    text = "\n".join(lines) + "\n"
    if snapshots := info.get("snapshots"):
        text += table(snapshots)
    if specific := info.get("format-specific"):
        text += f"Format specific information:\n{listed(specific['data'])}"
    return text


def table(snapshots: list[dict[str, Any]]) -> str:
    """Snapshots for people."""
    text = f"Snapshot list:\n{'ID':<9} {'TAG':<16} {'VM SIZE':>8}{'DATE':>20}{'VM CLOCK':>13}{'ICOUNT':>11}\n"
    for each in snapshots:
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each["date-sec"]))
        minutes, seconds = divmod(each["vm-clock-sec"], 60)
        clock = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{each['vm-clock-nsec'] // 10**6:03}"
        icount = each.get("icount", "")
        name = each["name"] + " " * (16 - len(each["name"].encode("utf-8", "surrogateescape")))  # printf(3) counts bytes
        text += f"{each['id']:<9} {name} {readable(each['vm-state-size']):>8}{date:>20}{clock:>13}{icount:>11}\n"
    return text
