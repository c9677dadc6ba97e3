"""The commands: thin, they parse, call and print."""

import gc

gc.set_threshold(50_000)  # looking for cycles among what imports make took a tenth of a short command
