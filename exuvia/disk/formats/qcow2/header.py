"""The header and its extensions (qcow2.txt, "Header"): what the first cluster says, and how it is changed."""

from exuvia.disk.node import ImageError, Node
from exuvia.disk.structure import Structure, at
from exuvia.support.record import Record

MAGIC = b"QFI\xfb"
DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = 1, 2, 4, 8, 16  # incompatible features
LAZY_REFCOUNTS = 1  # compatible ones
BITMAPS, RAW_DATA_FILE = 1, 2  # autoclear ones
AES, LUKS = 1, 2  # crypt_method
KNOWN = (
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
)
COMPRESSIONS = ("zlib", "zstd")  # by compression_type
END, BACKING_FORMAT, FEATURE_NAMES, BITMAP_DIRECTORY, ENCRYPTION, DATA_FILE_NAME = (
    0,
    0xE2792ACA,
    0x6803F857,
    0x23852875,
    0x0537BE77,
    0x44415441,
)
ORDER = (BACKING_FORMAT, DATA_FILE_NAME, ENCRYPTION, FEATURE_NAMES, BITMAP_DIRECTORY)  # as extensions are written
LONGEST_NAME = 1023  # bytes of a backing file's name
V2, V3 = 72, 104  # bytes of the header
SECTOR = 512  # what a disk writes whole or not at all
L1_LIMIT = 32 << 20  # bytes, QEMU's; a hostile number must not become memory
REFCOUNT_TABLE_LIMIT = 8 << 20
SNAPSHOT_LIMIT = 65536


class Fields(Structure, order=">"):
    """The fixed fields, named as in the specification."""

    magic: bytes = at("4s", MAGIC)
    version: int = at("I", 3)
    backing_file_offset: int = at("Q")
    backing_file_size: int = at("I")
    cluster_bits: int = at("I", 16)
    size: int = at("Q")
    crypt_method: int = at("I")
    l1_size: int = at("I")
    l1_table_offset: int = at("Q")
    refcount_table_offset: int = at("Q")
    refcount_table_clusters: int = at("I")
    nb_snapshots: int = at("I")
    snapshots_offset: int = at("Q")
    incompatible_features: int = at("Q")
    compatible_features: int = at("Q")
    autoclear_features: int = at("Q")
    refcount_order: int = at("I", 4)
    header_length: int = at("I", 112)
    compression_type: int = at("B")
    padding: bytes = at("7s", b"")


class Extension(Structure, order=">"):
    """What stands before an extension's data."""

    kind: int = at("I")
    length: int = at("I")


class Header(Record):
    """Everything in the first cluster. `write` after a change, `write_fields` when fixed fields did: one sector, all or nothing."""

    file: Node
    fields: Fields
    extensions: dict[int, bytes] = {}
    backing_file: str | None = None
    further: bytes = b""  # header bytes that a later version added

    @classmethod
    def read(cls, file: Node) -> "Header":
        """Raises ImageError for what no qcow2 header can be, or needs what is not known here."""
        head = file.read(0, Fields.SIZE)
        fields = Fields.unpack(head)
        header = cls(file, fields)
        if fields.magic != MAGIC:
            raise header.error("Image is not in qcow2 format")
        if fields.version not in (2, 3):
            raise header.error(f"Unsupported qcow2 version {fields.version}")
        if not 9 <= fields.cluster_bits <= 21:
            raise header.error(f"Unsupported cluster size: 2^{fields.cluster_bits}")
        if fields.version == 2:
            header.fields = fields = Fields.unpack(head[:V2])
            fields.refcount_order, fields.header_length = 4, V2
        if fields.version == 3 and fields.header_length < V3:
            raise header.error("qcow2 header too short")
        if fields.header_length > 1 << fields.cluster_bits:
            raise header.error("qcow2 header exceeds cluster size")
        if fields.header_length < Fields.SIZE:
            fields.compression_type, fields.padding = 0, b""
        header._read_extensions()
        header._check()
        return header

    def error(self, text: str) -> ImageError:
        """What is wrong, with the file's name."""
        return ImageError(f"{self.file.filename}: {text}")

    def _read_extensions(self) -> None:
        fields = self.fields
        cluster = 1 << fields.cluster_bits
        first = self.file.read(0, min(cluster, max(self.file.size, Fields.SIZE)))
        self.further = first[Fields.SIZE : fields.header_length]
        offset, end = fields.header_length, cluster
        if fields.backing_file_offset:
            if fields.backing_file_offset > cluster or fields.backing_file_offset < fields.header_length:
                raise self.error("Invalid backing file offset")
            end = fields.backing_file_offset
            if fields.backing_file_size > min(LONGEST_NAME, cluster - end):
                raise self.error("Backing file name too long")
            self.backing_file = first[end : end + fields.backing_file_size].decode("utf-8", "surrogateescape")
        while offset + Extension.SIZE <= end:
            found = Extension.unpack(first, offset)
            offset += Extension.SIZE
            if found.kind == END:
                break
            if found.length > end - offset:
                raise self.error("Header extension too large")
            if found.kind in self.extensions:
                raise self.error(f"header extension 0x{found.kind:08x} appears twice")
            self.extensions[found.kind] = first[offset : offset + found.length]
            offset += found.length + -found.length % 8

    def _check(self) -> None:
        fields = self.fields
        unknown = fields.incompatible_features & ~(DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2)
        if unknown:
            names = {(each[0], each[1]): each[2:].rstrip(b"\0").decode("utf-8", "replace") for each in self._feature_names()}
            raise self.error(
                "Unsupported qcow2 feature(s): "
                + ", ".join(names.get((0, bit)) or f"Unknown incompatible feature: {1 << bit:x}" for bit in range(64) if unknown >> bit & 1)
            )
        if fields.refcount_order > 6:
            raise self.error("Reference count entry width too large; may not exceed 64 bits")
        if fields.crypt_method > LUKS:
            raise self.error(f"Unsupported encryption method {fields.crypt_method}")
        if fields.incompatible_features & EXTENDED_L2 and fields.cluster_bits < 14:
            raise self.error("clusters are too small for extended L2 entries (16 KiB at least)")
        if bool(fields.incompatible_features & COMPRESSION) != bool(fields.compression_type):
            raise self.error("the compression type and its feature bit contradict one another")
        if fields.compression_type > 1:
            raise self.error(f"Unknown compression type {fields.compression_type}")
        if not fields.refcount_table_clusters and not fields.incompatible_features & DIRTY:
            raise self.error("Image does not contain a reference count table")
        if fields.refcount_table_clusters << fields.cluster_bits > REFCOUNT_TABLE_LIMIT:
            raise self.error("Image claims a reference count table that is too large")
        if fields.l1_size * 8 > L1_LIMIT:
            raise self.error("Active L1 table too large")
        if fields.nb_snapshots > SNAPSHOT_LIMIT:
            raise self.error("Snapshot table too large")
        for what, offset in (
            ("Active L1 table", fields.l1_table_offset),
            ("Reference count table", fields.refcount_table_offset),
            ("Snapshot table", fields.snapshots_offset),
        ):
            if offset & ((1 << fields.cluster_bits) - 1) or offset >> 56:
                raise self.error(f"{what} offset invalid")

    def _feature_names(self) -> list[bytes]:
        table = self.extensions.get(FEATURE_NAMES, b"")
        return [table[at : at + 48] for at in range(0, len(table), 48) if len(table) >= at + 3]

    @property
    def backing_format(self) -> str | None:
        """The backing file's format, where it is recorded."""
        return self._text(BACKING_FORMAT)

    @property
    def data_file(self) -> str | None:
        """The external data file's name, where it is recorded."""
        return self._text(DATA_FILE_NAME)

    def _text(self, kind: int) -> str | None:
        found = self.extensions.get(kind)
        return None if found is None else found.decode("utf-8", "surrogateescape")

    def set_text(self, kind: int, text: str | None) -> None:
        """Change an extension that is a name; None takes it away."""
        if text is None:
            self.extensions.pop(kind, None)
        else:
            self.extensions[kind] = text.encode("utf-8", "surrogateescape")

    def pack(self) -> bytes:
        """The first cluster's bytes, zeros at its end left out. Raises ImageError when it has no room for all."""
        fields = self.fields
        fields.header_length = V2 if fields.version == 2 else Fields.SIZE + len(self.further)
        self.extensions.pop(FEATURE_NAMES, None)
        packed = self._packed()
        if fields.version > 2 and not (len(packed) <= SECTOR and (self.extensions or self.backing_file)):
            self.extensions[FEATURE_NAMES] = b"".join(bytes((kind, bit)) + name.encode().ljust(46, b"\0") for kind, bit, name in KNOWN)
            longer = self._packed()
            if len(longer) <= 1 << fields.cluster_bits:
                return longer
            del self.extensions[FEATURE_NAMES]  # they are for people, and small clusters have no room for all
            packed = self._packed()
        if len(packed) > 1 << fields.cluster_bits:
            raise self.error("the header, its extensions and the backing file's name do not fit into one cluster")
        return packed

    def _packed(self) -> bytes:
        fields = self.fields
        order = [kind for kind in ORDER if kind in self.extensions] + [kind for kind in self.extensions if kind not in ORDER]
        extensions = b"".join(
            Extension(kind, len(self.extensions[kind])).pack() + self.extensions[kind] + bytes(-len(self.extensions[kind]) % 8)
            for kind in order
        )
        extensions += Extension().pack()
        name = (self.backing_file or "").encode("utf-8", "surrogateescape")
        fields.backing_file_size = len(name)
        fields.backing_file_offset = fields.header_length + len(extensions) if name else 0
        return (fields.pack() + self.further)[: fields.header_length] + extensions + name

    def write(self) -> None:
        """Write the whole first cluster and flush it. What a power cut leaves is the old or the new, where the new fits into one sector:
        for that the names of features, which are long and for people, are left out.
        """
        packed = self.pack().ljust(1 << self.fields.cluster_bits, b"\0")
        self.file.write(0, packed[:SECTOR])
        self.file.flush()
        if packed[SECTOR:] != self.file.read(SECTOR, len(packed) - SECTOR):
            self.file.write(SECTOR, packed[SECTOR:])
            self.file.flush()

    def write_fields(self) -> None:
        """Write the fixed fields alone, in one sector."""
        self.file.write(0, self.fields.pack()[: min(self.fields.header_length, Fields.SIZE)])
