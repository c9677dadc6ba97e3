"""Passphrases of LUKS 1 images that are there (On-Disk Format, 4.3 and 4.4): they come and go, the master key and so the disk stays."""

from __future__ import annotations

from exuvia.disk.node import Node
from exuvia.disk.options import Option
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from exuvia.disk.formats.luks.version1 import Version1

OPTIONS = (
    Option("state", str, None, "Select new state of affected keyslots (active/inactive)"),
    Option("new-secret", str, None, "New secret to set in the matching keyslots. Empty string to erase"),
    Option("old-secret", str, None, "Select all keyslots that match this password"),
    Option("keyslot", int, None, "Select a single keyslot to modify explicitly"),
    Option("iter-time", int, None, "Time to spend in PBKDF in milliseconds"),
)
MILLISECONDS = 2000
LOST = "will erase all the data in the image irreversibly - refusing operation"


def amend(volume: Version1, file: Node, own: str, options: dict[str, Any], force: bool) -> None:
    """Do what `options` say (QMP's QCryptoBlockAmendOptionsLUKS). `own` is the secret that opens the image. Raises UserError."""
    given = {key: value for key, value in options.items() if value is not None}
    state, slot = given.get("state"), given.get("keyslot")
    if state is None:
        raise UserError("Parameter 'state' is missing")
    if state not in ("active", "inactive"):
        raise UserError(f"Parameter 'state' does not accept value '{state}'")
    wrong = "old-secret" if state == "active" else next((name for name in ("new-secret", "iter-time") if name in given), "")
    if state == "active" and "new-secret" not in given:
        raise UserError("'new-secret' is required to activate a keyslot")
    if wrong in given:
        raise UserError(f"'{wrong}' must not be given when {'activating' if state == 'active' else 'erasing'} keyslots")
    if slot is not None and not 0 <= slot < len(volume.slots):
        raise UserError(f"Invalid keyslot {slot} specified, must be between 0 and {len(volume.slots) - 1}")
    if state == "active":
        _add(volume, file, own, given, force)
    else:
        for each in _doomed(volume, file, given, force):
            volume.clear_slot(file, each)


def _add(volume: Version1, file: Node, own: str, given: dict[str, Any], force: bool) -> None:
    """Let a passphrase open a slot."""
    from exuvia.disk.objects import secret

    active = volume.active()
    slot = given.get("keyslot")
    if slot is None:
        slot = next((each for each in range(len(volume.slots)) if each not in active), None)
        if slot is None:
            raise UserError("Can't add a keyslot - all keyslots are in use")
    elif slot in active and not force:
        raise UserError(f"Refusing to overwrite active keyslot {slot} - please erase it first")
    key = volume.unlock(file, secret(own))
    if key is None:
        raise UserError("Invalid password, cannot unlock any keyslot")
    volume.fill_slot(file, slot, key, secret(given["new-secret"]), given.get("iter-time") or MILLISECONDS)


def _doomed(volume: Version1, file: Node, given: dict[str, Any], force: bool) -> list[int]:
    """The slots to be erased. Raises UserError where they are not what the caller thinks, or the last ones and not `force`."""
    from exuvia.disk.objects import secret

    active, slot = volume.active(), given.get("keyslot")
    old = secret(given["old-secret"]) if "old-secret" in given else None
    if slot is None:
        if old is None:
            raise UserError("To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be given")
        matching = [each for each in active if volume.open_slot(file, each, old) is not None]
        if not matching:
            raise UserError("No keyslots match given (old) password for erase operation")
        if matching == active and not force:
            raise UserError(f"All the active keyslots match the (old) password that was given and erasing them {LOST}")
        return matching
    if slot not in active:
        if force:
            return []
        raise UserError(f"Given keyslot {slot} is already erased (inactive)")
    if old is not None and volume.open_slot(file, slot, old) is None:
        raise UserError(f"Given keyslot {slot} doesn't contain the given old password for erase operation")
    if active == [slot] and not force:
        raise UserError(f"Attempt to erase the only active keyslot {slot} which {LOST}")
    return [slot]
