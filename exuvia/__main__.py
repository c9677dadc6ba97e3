"""`python -m exuvia` is the command `exuvia`."""

from exuvia.cli.main import main

main()
