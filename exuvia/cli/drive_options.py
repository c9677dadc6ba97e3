"""What `-drive` and `-blockdev` say (QEMU, System Emulation, Block device options)."""

from collections.abc import Mapping
from typing import Any

from exuvia.cli import keyval
from exuvia.machines.config import DeviceConfig, DriveConfig
from exuvia.support.errors import UserError, unknown

DRIVE = "file if id format readonly read-only snapshot cache media discard index unit".split()
SAYS_SO = {
    "aio": ("threads", "native", "io_uring"),  # how QEMU does it: no effect
    "detect-zeroes": ("off",),
    "copy-on-read": ("off", "no", "false"),
    "werror": ("report",),  # to the guest, as disks do
    "rerror": ("report",),
}
"""More properties of -drive, with the values that say what is so anyway."""
CACHES = ("none", "writeback", "writethrough", "directsync", "unsafe")
LATER = ("ide", "scsi", "sd", "mtd", "floppy", "xen")  # interfaces of QEMU's


def no_ide(option: str, file: str) -> UserError:
    """The answer to a disk whose place is an IDE controller."""
    shown = file.replace(",", ",,")
    return UserError(f"{option}: this is an IDE disk, which there is not yet: write -drive file={shown},if=virtio (a kernel: -kernel FILE)")


def drive(text: str, number: int) -> tuple[DriveConfig, DeviceConfig | None]:
    """`-drive TEXT`, the `number`th of them, and the device that if=virtio makes. Raises UserError."""
    option = f"-drive {text}"
    inner: dict[str, str] = {}  # driver=… and dotted keys describe the image
    own: dict[str, str] = {}
    for key, value in keyval.parse(text):
        if "." in key or key in ("driver", "node-name", "backing"):
            inner[key] = value
        elif key in DRIVE:
            own[key] = value
        elif key not in SAYS_SO:
            raise unknown("property of -drive", key, [*DRIVE, *SAYS_SO, "driver"])
        elif value not in SAYS_SO[key]:
            raise UserError(f"{option}: {key} can only be {' or '.join(SAYS_SO[key])}, not '{value}'")
    interface = own.get("if", "ide")
    if interface == "ide":
        raise no_ide(option, own.get("file", "FILE"))
    if interface in LATER:
        raise UserError(f"{option}: there is no interface '{interface}' yet: write if=virtio")
    if interface not in ("virtio", "none", "pflash"):
        raise unknown("interface of -drive", interface, ["virtio", "none", "pflash"])
    bank = own.get("unit", own.get("index", "-1"))
    if interface == "pflash" and bank not in ("-1", "0", "1"):
        raise UserError(f"{option}: banks of flash memory are unit=0 and unit=1, not '{bank}'")
    if own.get("media", "disk") != "disk":
        raise UserError(f"{option}: media is disk; there are no CD-ROM drives yet")
    if own.get("cache", "writeback") not in CACHES:
        raise UserError(f"{option}: cache is one of {', '.join(CACHES)}, not '{own['cache']}'")
    image: str | dict[str, Any] = own.get("file", "")
    if inner:
        image = _description(inner | ({"file": own["file"]} if "file" in own else {}) | _format(own))
    elif not image:
        raise UserError(f"{option}: it needs file=FILE")
    id = own.get("id") or f"{interface}{own.get('index', number)}"
    made = DriveConfig(
        id=id,
        image=image,
        format=None if inner else own.get("format"),
        read_only=_switch(option, own, "readonly") or _switch(option, own, "read-only"),
        cache=own.get("cache"),
        discard=_discard(option, own.get("discard", "ignore")),
        snapshot=_switch(option, own, "snapshot"),
        flash=int(bank) if interface == "pflash" else None,
        option=option,
    )
    device = DeviceConfig(name="virtio-blk-pci", properties=(("drive", id), ("id", f"{id}-disk"))) if interface == "virtio" else None
    return made, device


def _format(own: Mapping[str, str]) -> dict[str, str]:
    return {"driver": own["format"]} if "format" in own else {}


def _switch(option: str, own: Mapping[str, Any], key: str) -> bool:
    value = own.get(key, False)
    if isinstance(value, bool):
        return value
    return keyval.switch(f"{option}: {key}", value)


def _discard(option: str, value: str) -> bool:
    if value not in ("ignore", "off", "unmap", "on"):
        raise UserError(f"{option}: discard is unmap or ignore, not '{value}'")
    return value in ("unmap", "on")


def _description(pairs: Mapping[str, Any]) -> dict[str, Any]:
    from exuvia.disk.graph import nested

    return nested(pairs)


def blockdev(text: str) -> tuple[str, dict[str, Any]]:
    """The node name and the description of `-blockdev TEXT`. Raises UserError."""
    option = f"-blockdev {text}"
    if text.startswith("{"):
        import json

        try:
            said = json.loads(text)
        except ValueError as error:
            raise UserError(f"{option}: this is not JSON: {error}") from None
    else:
        said = dict(keyval.parse(text, "driver"))
    said = _description(said)
    name = said.pop("node-name", None)
    if not isinstance(name, str) or not name:
        raise UserError(f"{option}: it needs node-name=ID")
    if not isinstance(said.get("driver"), str):
        raise UserError(f"{option}: it needs driver=DRIVER, a format or what reaches a file")
    return name, said


def described_drive(name: str, said: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> DriveConfig:
    """The disk that -blockdev `name` is. Where its description names one of `nodes`, that stands in its place. Raises UserError."""
    option = f"-blockdev node-name={name}"
    whole = _resolved(option, said, nodes, (name,))
    from exuvia.disk.graph import PROTOCOLS

    if whole["driver"] in PROTOCOLS:  # what reaches bytes, with nothing to give them meaning
        whole = {"driver": "raw", "file": whole} | {key: whole[key] for key in ("read-only", "cache", "discard") if key in whole}
    cache = whole.get("cache", {})
    if not isinstance(cache, Mapping):
        raise UserError(f"{option}: cache has direct and no-flush, as in cache.no-flush=on")
    return DriveConfig(
        id=name,
        image=whole,
        read_only=_switch(option, whole, "read-only"),
        cache="unsafe" if _switch(option, cache, "no-flush") else None,
        discard=_discard(option, str(whole.pop("discard", "ignore"))),
        option=option,
    )


def _resolved(option: str, said: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]], above: tuple[str, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in said.items():
        if isinstance(value, Mapping):
            result[key] = _resolved(option, value, nodes, above)
        elif key in ("file", "backing", "data-file", "image", "raw", "test") and isinstance(value, str):
            if value not in nodes:
                raise unknown(f"node in {option}", value, nodes)
            if value in above:
                raise UserError(f"{option}: '{value}' stands on itself")
            result[key] = _resolved(option, nodes[value], nodes, (*above, value))
        else:
            result[key] = value
    return result
