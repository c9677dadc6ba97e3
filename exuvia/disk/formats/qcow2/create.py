"""New images, and how large they will be."""

from __future__ import annotations

import struct

from exuvia.disk.format import Format, Measure, Opener
from exuvia.disk.formats.qcow2.header import (
    AES,
    BACKING_FORMAT,
    COMPRESSION,
    COMPRESSIONS,
    DATA_FILE,
    DATA_FILE_NAME,
    ENCRYPTION,
    EXTENDED_L2,
    L1_LIMIT,
    LAZY_REFCOUNTS,
    LONGEST_NAME,
    LUKS,
    RAW_DATA_FILE,
    Fields,
    Header,
)
from exuvia.disk.formats.qcow2.rebuild import packed
from exuvia.disk.node import Kind, Node
from exuvia.disk.options import Option
from exuvia.support.errors import UserError
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from exuvia.disk.formats.qcow2 import compression, encryption
    from exuvia.disk.formats.qcow2.qcow2 import Qcow2
else:
    compression, encryption = Later("exuvia.disk.formats.qcow2.compression"), Later("exuvia.disk.formats.qcow2.encryption")

PREALLOCATION = ("off", "metadata", "falloc", "full")
OPTIONS = (
    Option("encryption", bool, None, "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)"),
    Option("encrypt.format", str, None, "Encrypt the image, format choices: 'aes', 'luks'"),
    Option("encrypt.key-secret", str, None, "ID of secret providing qcow AES key or LUKS passphrase"),
    Option("encrypt.cipher-alg", str, None, "Name of encryption cipher algorithm"),
    Option("encrypt.cipher-mode", str, None, "Name of encryption cipher mode"),
    Option("encrypt.ivgen-alg", str, None, "Name of IV generator algorithm"),
    Option("encrypt.ivgen-hash-alg", str, None, "Name of IV generator hash algorithm"),
    Option("encrypt.hash-alg", str, None, "Name of encryption hash algorithm"),
    Option("encrypt.iter-time", int, None, "Time to spend in PBKDF in milliseconds"),
    Option("cluster_size", "size", 65536, "qcow2 cluster size"),
    Option("extended_l2", bool, False, "Extended L2 tables"),
    Option("preallocation", str, None, "Preallocation mode (allowed values: off, metadata, falloc, full)"),
    Option("compression_type", str, "zlib", "Compression method used for image cluster compression"),
    Option("size", "size", None, "Virtual disk size"),
    Option("compat", str, None, "Compatibility level (v2 [0.10] or v3 [1.1])"),
    Option("backing_file", str, None, "File name of a base image"),
    Option("backing_fmt", str, None, "Image format of the base image"),
    Option("data_file", str, None, "File name of an external data file"),
    Option("data_file_raw", bool, None, "The external data file must stay valid as a raw image"),
    Option("lazy_refcounts", bool, False, "Postpone refcount updates"),
    Option("refcount_bits", int, 16, "Width of a reference count entry in bits"),
)
VERSIONS = {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}


def fields_of(options: dict[str, Any]) -> Fields:
    """The header that `options` ask for. Raises UserError where they contradict one another."""
    compat = options.get("compat") or "1.1"
    if compat not in VERSIONS:
        raise UserError(f"Parameter 'version' does not accept value '{compat}'")
    version = VERSIONS[compat]
    cluster = options.get("cluster_size")
    cluster = 65536 if cluster is None else cluster
    if cluster & (cluster - 1) or not 512 <= cluster <= 2 << 20:
        raise UserError("Cluster size must be a power of two between 512 and 2048k")
    width = options.get("refcount_bits")
    width = 16 if width is None else width
    if width & (width - 1) or not 1 <= width <= 64:
        raise UserError("Refcount width must be a power of two and may not exceed 64 bits")
    if version < 3 and width != 16:
        raise UserError("Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)")
    if version < 3 and options.get("lazy_refcounts"):
        raise UserError("Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)")
    if version < 3 and options.get("data_file"):
        raise UserError("External data files are only supported with compatibility level 1.1 and above (use version=v3 or greater)")
    if options.get("data_file_raw") and not options.get("data_file"):
        raise UserError("data-file-raw requires data-file")
    if options.get("data_file_raw") and options.get("backing_file"):
        raise UserError("Backing file and data-file-raw cannot be used at the same time")
    packing = options.get("compression_type") or "zlib"
    if packing not in COMPRESSIONS:
        raise UserError(f"Parameter 'compression-type' does not accept value '{packing}'")
    if packing != "zlib" and version < 3:
        raise UserError("Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or greater)")
    if options.get("extended_l2") and version < 3:
        raise UserError("Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)")
    if options.get("extended_l2") and cluster < 16384:
        raise UserError("Extended L2 entries are only supported with cluster sizes of at least 16384 bytes")
    if (options.get("preallocation") or "off") not in PREALLOCATION:
        raise UserError(f"Parameter 'preallocation' does not accept value '{options['preallocation']}'")
    if options.get("backing_file") and (options.get("preallocation") or "off") != "off" and not options.get("extended_l2"):
        raise UserError("Backing file and preallocation can only be used at the same time if extended_l2 is on")
    if options.get("backing_fmt") and not options.get("backing_file"):
        raise UserError("Backing format cannot be used without backing file")
    fields = Fields(version=version, cluster_bits=cluster.bit_length() - 1, refcount_order=width.bit_length() - 1)
    fields.compression_type = COMPRESSIONS.index(packing)
    if options.get("lazy_refcounts"):
        fields.compatible_features |= LAZY_REFCOUNTS
    for wanted, bit in ((packing != "zlib", COMPRESSION), (options.get("extended_l2"), EXTENDED_L2), (options.get("data_file"), DATA_FILE)):
        fields.incompatible_features |= bit if wanted else 0
    fields.crypt_method = encryption_method(options)
    if options.get("data_file_raw"):
        fields.autoclear_features |= RAW_DATA_FILE
    return fields


def encryption_method(options: dict[str, Any]) -> int:
    """The header's crypt_method that options of creation ask for. Raises UserError."""
    wanted = options.get("encrypt.format")
    if options.get("encryption") and wanted is not None:
        raise UserError("'encrypt.format' and its alias 'encryption' can't be used at the same time")
    if options.get("encryption"):
        wanted = "aes"
    if wanted is None:
        return 0
    if wanted not in ("aes", "luks"):
        raise UserError(f"Parameter 'format' does not accept value '{wanted}'")
    if options.get("encrypt.key-secret") is None:
        raise UserError("Parameter 'encrypt.key-secret' is required for cipher")
    return LUKS if wanted == "luks" else AES


def create(kind: type[Qcow2], file: Node, size: int, options: dict[str, Any], opener: Opener | None) -> None:
    """Header, one refcount table, one block; then the image grows to its size by itself."""
    fields = fields_of(options)
    cluster = 1 << fields.cluster_bits
    entry = 16 if fields.incompatible_features & EXTENDED_L2 else 8
    size += -size % 512
    if -(-size // (cluster // entry * cluster)) * 8 > L1_LIMIT:
        raise UserError("The image size is too large for file format 'qcow2' (try using a larger cluster size)")
    if fields.compression_type:
        compression.codec(fields.compression_type)  # its package is there
    luks: tuple[bytes, int] | None = None
    name = options.get("backing_file")
    if name and len(name.encode("utf-8", "surrogateescape")) > LONGEST_NAME:
        raise UserError(f"{file.filename}: the backing file's name is longer than {LONGEST_NAME} bytes")
    fields.refcount_table_offset, fields.refcount_table_clusters = cluster, 1
    header = Header(file, fields, {}, name)
    header.set_text(BACKING_FORMAT, options.get("backing_fmt"))
    data_file = options.get("data_file")
    if data_file:
        header.set_text(DATA_FILE_NAME, data_file)
        if opener is None:
            raise UserError(f"{file.filename}: nothing can make the data file {data_file}")
        data = opener(data_file, True)
        try:
            data.resize(0)
        finally:
            data.close()
    if fields.crypt_method == LUKS:
        fields.crypt_method = 0  # until its header is there
        luks = encryption.luks_header(options)
    header.write()
    file.write(cluster, struct.pack(">Q", 2 * cluster).ljust(cluster, b"\0"))
    file.write(2 * cluster, packed(bytes((1, 1, 1, 0, 0, 0, 0, 0)), 1 << fields.refcount_order).ljust(cluster, b"\0"))
    secret = {"encrypt.key-secret": options["encrypt.key-secret"]} if fields.crypt_method == AES else {}
    image = kind(file, writable=True, opener=opener, **secret)
    try:
        mode = options.get("preallocation") or "off"
        if luks is not None:
            _encrypt(image, *luks)
            if mode != "off":  # clusters that are given in advance must decrypt to zeros
                image.flush()
                image = kind(file, writable=True, opener=opener, **{"encrypt.key-secret": options["encrypt.key-secret"]})
        if image.raw_data and mode == "off":
            mode = "metadata"  # the data file's bytes are the disk's from the beginning
        image.resize(size, mode)
        if data_file and image.data.size < size:
            image.data.resize(size)
        with image.lock:
            image.commit()
            image.commit()
            image.clean()
    finally:
        if image.data is not file:
            image.data.close()


def _encrypt(image: Qcow2, luks: bytes, length: int) -> None:
    """Put a LUKS header into an image that has nothing yet."""
    image.begin()
    cluster, header = image.cluster, image.header
    offset = image.take(-(-length // cluster))
    image.file.write(offset, luks.ljust(length + -length % cluster, b"\0"))
    header.extensions[ENCRYPTION] = struct.pack(">QQ", offset, length)
    image.commit()
    header.fields.crypt_method = LUKS
    header.write()


def metadata(size: int, cluster: int, width: int, entry: int) -> int:
    """Bytes of an image whose `size` bytes are all allocated: data, header, tables, and counts of all that."""
    data = size + -size % cluster
    per_table = cluster // entry
    entries = data // cluster
    entries += -entries % per_table
    tables = entries // per_table
    first = tables + -tables % (cluster // 8)
    other = cluster + tables * cluster + first * 8
    clusters = (other + data) // cluster
    blocks = table = 0
    while True:
        total = clusters + blocks + table
        need = -(-total * width // (cluster * 8))
        need_table = -(-need * 8 // cluster)
        if (need, need_table) == (blocks, table):
            return other + data + (blocks + table) * cluster
        blocks, table = need, need_table


def measure(size: int, options: dict[str, Any], source: Node | None) -> Measure:
    """What an image needs: everything, and only what `source` has."""
    fields = fields_of(options)
    cluster = 1 << fields.cluster_bits
    entry = 16 if fields.incompatible_features & EXTENDED_L2 else 8
    size += -size % 512
    aligned = size + -size % cluster
    if -(-aligned // (cluster // entry * cluster)) * 8 > L1_LIMIT:
        raise UserError("The image size is too large (try using a larger cluster size)")
    full = metadata(aligned, cluster, 1 << fields.refcount_order, entry)
    required = 0
    mode = options.get("preallocation") or "off"
    if mode in ("falloc", "full"):
        required = aligned
    elif source is not None:
        required = needed(source, size, cluster, bool(options.get("backing_file")))
    if fields.crypt_method == LUKS:
        room = encryption.luks_room(options)
        full += room + -room % cluster
    kept = [each for each in source.bitmaps() if not each.in_use] if isinstance(source, Format) else []
    wanted = isinstance(source, Format) and source.can_keep_bitmaps() and source.info().get("compat") != "0.10" and fields.version > 2
    bitmaps = bitmap_room([each.granularity for each in kept], [each.name for each in kept], size, cluster)
    return Measure(full - aligned + required, full, bitmaps if wanted else None)


def bitmap_room(granularities: list[int], names: list[str], size: int, cluster: int) -> int:
    """Bytes that persistent bitmaps take at most."""
    total = entries = 0
    for granularity, name in zip(granularities, names):
        clusters = -(-((-(-size // granularity) + 7) // 8) // cluster)
        total += clusters * cluster + -(-clusters * 8 // cluster) * cluster
        entries += 24 + len(name.encode()) + -(24 + len(name.encode())) % 8
    return total + -(-entries // cluster) * cluster


def needed(source: Node, size: int, cluster: int, backed: bool) -> int:
    """Bytes of the clusters that hold what `source` has; with a backing file, all clusters that its own layer has."""
    from exuvia.disk.chain import on_holes, places
    from exuvia.disk.clusters import Clustered

    total = end = 0
    if backed:
        return size + -size % cluster
    if isinstance(source, Clustered) and source.backing is None and not on_holes(source):
        units = source.units(cluster, min(size, source.size))
        if units is not None:
            return units * cluster
    for start, stop, kind, _, _ in places(source, 0, min(size, source.size)):
        if kind is Kind.DATA:
            start = max(start - start % cluster, end)
            end = max(stop + -stop % cluster, end)
            total += max(end - start, 0)
    return total
