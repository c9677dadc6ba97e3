"""Print the version."""

import argparse

from exuvia.cli.listings import version


def arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(args: argparse.Namespace) -> int:
    """Print it."""
    print(version("exuvia"), end="")
    return 0
