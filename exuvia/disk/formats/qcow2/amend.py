"""Changing the options of an image that is there."""

from __future__ import annotations

from array import array

from exuvia.disk.formats.qcow2 import encryption, resize, snapshots
from exuvia.disk.formats.qcow2.create import OPTIONS as CREATE
from exuvia.disk.formats.qcow2.create import VERSIONS
from exuvia.disk.formats.qcow2.header import (
    BITMAP_DIRECTORY,
    COMPRESSION,
    DATA_FILE,
    DATA_FILE_NAME,
    DIRTY,
    FEATURE_NAMES,
    LAZY_REFCOUNTS,
    RAW_DATA_FILE,
    V2,
)
from exuvia.disk.formats.qcow2.rebuild import rebuild
from exuvia.disk.formats.qcow2.refcounts import Refcounts, big_endian
from exuvia.disk.formats.qcow2.rows import COMPRESSED, COPIED, OFFSET, ZERO
from exuvia.disk.node import ZEROS, Kind
from exuvia.disk.options import Option
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from exuvia.disk.formats.qcow2.qcow2 import Qcow2

NAMES = ("backing_file", "backing_fmt", "compat", "data_file", "data_file_raw", "lazy_refcounts", "refcount_bits")
OPTIONS = (
    *(Option(each.name, each.type, None, each.text) for each in CREATE if each.name in NAMES),
    *encryption.AMEND,
    Option("size", "size", None, "Virtual disk size"),
)


def amend(image: Qcow2, options: dict[str, Any], force: bool, progress: Callable[[float], None]) -> None:
    """Do what `options` say. Raises UserError before anything is changed where they cannot be."""
    fields = image.header.fields
    compat = options.get("compat")
    if compat is not None and compat not in VERSIONS:
        raise UserError(f"Unknown compatibility level {compat}")
    version = fields.version if compat is None else VERSIONS[compat]
    width = options.get("refcount_bits")
    if width is not None and (width & (width - 1) or not 1 <= width <= 64):
        raise UserError("Refcount width must be a power of two and may not exceed 64 bits")
    if options.get("data_file_raw") and not image.raw_data:
        raise UserError("data-file-raw cannot be set on existing images")
    if options.get("data_file") is not None and not fields.incompatible_features & DATA_FILE:
        raise UserError("data-file can only be set for images that use an external data file")
    for option, now in (("backing_file", image.backing_file), ("backing_fmt", image.backing_format)):
        if options.get(option) is not None and options[option] != (now or ""):
            raise UserError("Cannot amend the backing file\nYou can use 'exuvia-img rebase' instead.")
    if version < 3:
        if options.get("lazy_refcounts"):
            raise UserError("Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)")
        if (width or 16) != 16:
            raise UserError("Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)")
        if fields.version > 2:
            _may_downgrade(image, width or 1 << fields.refcount_order)
    secrets = {key.removeprefix("encrypt."): value for key, value in options.items() if key.startswith("encrypt.")}
    if secrets and image.key is None:
        raise UserError("Can't amend encryption options - encryption not present")
    if secrets and image.key is not None:
        image.key.amend(secrets, force)
    if version > fields.version:
        _upgrade(image)
    if width is not None and width != 1 << fields.refcount_order:
        _widen(image, width)
    lazy = options.get("lazy_refcounts")
    if lazy is not None and fields.version > 2:
        fields.compatible_features = fields.compatible_features & ~LAZY_REFCOUNTS | (LAZY_REFCOUNTS if lazy else 0)
        image.commit()
        image.commit()
        if not lazy:
            fields.incompatible_features &= ~DIRTY
            image.map.lazy = False
        image.header.write_fields()
    if options.get("data_file") is not None:
        image.header.set_text(DATA_FILE_NAME, options["data_file"] or None)
        image.header.write()
    if options.get("data_file_raw") is False and image.raw_data:
        fields.autoclear_features &= ~RAW_DATA_FILE
        image.header.write_fields()
    if version < fields.version:
        _downgrade(image, progress)
    size = options.get("size")
    if size is not None and size != image.size:
        resize.resize(image, size, "off")
    progress(1.0)


def _upgrade(image: Qcow2) -> None:
    """Version 3, with the features that version 2 has always."""
    fields = image.header.fields
    image.commit()
    fields.version, fields.refcount_order = 3, 4
    fields.incompatible_features = fields.compatible_features = fields.autoclear_features = 0
    fields.compression_type, fields.padding = 0, b""
    image.header.further = b""
    image.header.write()
    image.file.flush()
    image.map.has_zero = True
    image.dirty = False


def _may_downgrade(image: Qcow2, width: int) -> None:
    fields = image.header.fields
    if fields.incompatible_features & DATA_FILE:
        raise UserError("Cannot downgrade an image with a data file")
    other = fields.incompatible_features & ~(DIRTY | COMPRESSION)
    if other:
        raise UserError(f"Cannot downgrade an image with incompatible features {other:#x} set")
    if width != 16:
        raise UserError("compat=0.10 requires refcount_bits=16")
    if fields.incompatible_features & COMPRESSION:
        if image.table_of_snapshots:
            raise UserError("Internal snapshots prevent downgrade of image")  # they may hold compressed clusters
        if any(extent.kind is Kind.COMPRESSED for extent in image.extents(0, image.size)):
            raise UserError("Cannot downgrade an image with zstd compression type and existing compressed clusters")
    for entry in image.table_of_snapshots:
        if entry.public().vm_state or entry.disk_size(image.header) != image.size or _has_zeros(image, entry):
            raise UserError("Internal snapshots prevent downgrade of image")


def _downgrade(image: Qcow2, progress: Callable[[float], None]) -> None:
    """Version 2: clusters that are zero by a flag become data or nothing, bitmaps go."""
    for record in list(image.records.records):
        image.records.remove(record.name.decode("utf-8", "surrogateescape"))
    backed = image.backing_file is not None
    total = len(image.map.l1)
    for number in range(total):
        if image.map.table(number):
            _expand(image, number, backed)
        progress(number / total / 2)
    image.commit()
    image.commit()
    fields = image.header.fields
    fields.version, fields.header_length, fields.compression_type = 2, V2, 0
    image.compressor = None
    fields.incompatible_features = fields.compatible_features = fields.autoclear_features = 0
    for kind in (FEATURE_NAMES, BITMAP_DIRECTORY):
        image.header.extensions.pop(kind, None)
    image.header.further = b""
    image.header.write()
    image.file.flush()
    image.map.has_zero, image.map.lazy, image.dirty = False, False, False


def _expand(image: Qcow2, number: int, backed: bool) -> None:
    """Take zero flags out of an active L2 table."""
    size = image.cluster
    first = number * image.map.per_table
    for at, entry in enumerate(image.map.entries(first, image.map.per_table)):
        if not entry & ZERO or entry & COMPRESSED:
            continue
        image.map.own_table(first)
        if not backed:
            image.map.give_up(entry)
            image.map.put(first + at, (0,))
            continue
        host = entry & OFFSET
        if not host or not entry & COPIED:
            image.map.give_up(entry)
            host = image.take(1)
        image.through(first + at, host).write(host, ZEROS[:size])
        image.map.put(first + at, (host | COPIED,))


def _has_zeros(image: Qcow2, entry: snapshots.Entry) -> bool:
    """Whether a snapshot has clusters that are zero by a flag: its tables cannot be changed here."""
    for each in snapshots.l1_of(image, entry):
        if each & OFFSET:
            words = big_endian(array("Q", image.file.read(each & OFFSET, image.cluster)))
            if any(word & ZERO and not word & COMPRESSED for word in words):
                return True
    return False


def _widen(image: Qcow2, width: int) -> None:
    """Other reference counts."""
    from exuvia.disk.formats.qcow2.check import Check

    image.commit()
    image.commit()
    looked = Check(image, False, False)
    looked.count()
    if looked.found.corruptions:
        raise UserError(f"{image.filename}: the image has errors, mend them first: {looked.found.messages[0]}")
    rebuild(image, looked.counts, width.bit_length() - 1)
    old = image.refcounts
    image.refcounts = image.map.refcounts = Refcounts(image.file, image.header, old.cache)
    image.refcounts.epoch, image.refcounts.active = old.epoch, old.active
    image.reserve()
