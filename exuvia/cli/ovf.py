"""Look into virtual appliances (.ova, .ovf) and take disks out of them.

exuvia ovf list appliance.ova
exuvia ovf extract appliance.ova                       every disk, as it is
exuvia ovf extract appliance.ova vmdisk1 -O qcow2      one disk, converted without unpacking it first
"""

import argparse
import json
import os
from dataclasses import asdict
from typing import Any

from exuvia.cli.progress import Progress
from exuvia.disk.ovf import Appliance
from exuvia.support.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    """list | extract"""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    look = actions.add_parser("list", help="show machines and disks")
    look.add_argument("file", metavar="FILE", help="an .ova or .ovf")
    look.add_argument("--output", choices=("human", "json"), default="human", help="json adds how exuvia-img opens each disk: json:{...}")
    extract = actions.add_parser("extract", help="copy disks out, checked against the manifest")
    extract.add_argument("file", metavar="FILE", help="an .ova or .ovf")
    extract.add_argument("disk", nargs="*", metavar="DISK", help="disks by id or file name (all)")
    extract.add_argument("-O", dest="format", metavar="FORMAT", help="convert to this format, as exuvia-img convert does")
    extract.add_argument("--to", default=".", metavar="FOLDER", help="where the copies go (here)")


def run(args: argparse.Namespace) -> int:
    """List or extract."""
    appliance = Appliance(args.file)
    return _list(appliance, args.output) if args.action == "list" else _extract(appliance, args)


def _list(appliance: Appliance, output: str) -> int:
    if output == "json":
        disks: list[dict[str, Any]] = [
            {"id": disk.id, "capacity": disk.capacity, "file": disk.file, "image": appliance.describe(disk) if disk.file else None}
            for disk in appliance.disks
        ]
        print(json.dumps({"systems": [asdict(each) for each in appliance.systems], "disks": disks}, indent=4))
        return 0
    for system in appliance.systems:
        print(f"{system.name}: " + (system.system or "a machine"))
        print(f"  processors  {system.processors or 'not said'}")
        print(f"  memory      {f'{system.memory / (1 << 20):,.0f} MiB' if system.memory else 'not said'}")
        for name, card in system.networks:
            print(f"  network     {name or 'unnamed'}" + (f", {card}" if card else ""))
    for disk in appliance.disks:
        print(f"disk {disk.id}: {disk.capacity / (1 << 30):,.2f} GiB, {disk.file or 'empty'}" + (f", {disk.format}" if disk.format else ""))
    return 0


def _extract(appliance: Appliance, args: argparse.Namespace) -> int:
    disks = [appliance.disk(id) for id in args.disk] if args.disk else [disk for disk in appliance.disks if disk.file]
    if not os.path.isdir(args.to):
        raise UserError(f"--to {args.to}: there is no such folder")
    for disk in disks:
        base = os.path.basename(disk.file)
        target = os.path.join(args.to, base if args.format is None else f"{base.rpartition('.')[0] or base}.{args.format}")
        if args.format is None:
            with Progress(f"Extracting {disk.id}") as progress:
                appliance.extract(disk, target, progress)
        else:
            from exuvia.cli.img.main import run as img

            if os.path.lexists(target):
                raise UserError(f"{target} is there already")
            status = img(["convert", "-O", args.format, "json:" + json.dumps(appliance.describe(disk)), target])
            if status:
                return status
        print(target)
    return 0
