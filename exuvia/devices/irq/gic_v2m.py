"""GICv2m: a frame that turns messages into SPIs (Arm Server Base System Architecture, DEN 0029, appendix on GICv2m)."""

from exuvia.devices.device import Device, Property, Reg, Sink

MSI_SETSPI = 0x40


class GicV2m(Device):
    """A write of an SPI's INTID to MSI_SETSPI raises it. `spis` are the sinks of those that the frame has, in order."""

    name = "gic-v2m"
    window = 0x1000
    accesses = (4,)
    base = Property(int, 80, "the INTID of its first SPI")
    count = Property(int, 64, "how many SPIs it has")

    msi_typer = Reg(0x008, 32, writable=0)
    msi_setspi = Reg(MSI_SETSPI, 32)
    msi_iidr = Reg(0xFCC, 32, reset=0x43B, writable=0)

    def __init__(self, *args: object, **settings: object) -> None:
        self.spis: list[Sink] = []
        super().__init__(*args, **settings)  # type: ignore[arg-type]

    @msi_typer.read
    def read_typer(self) -> int:
        """The range of INTIDs."""
        return self.base << 16 | self.count

    @msi_setspi.read
    def read_setspi(self) -> int:
        """Write-only."""
        return 0

    @msi_setspi.write
    def raise_spi(self, value: int) -> None:
        """An edge."""
        number = (value & 0x3FF) - self.base
        if 0 <= number < min(self.count, len(self.spis)):
            self.spis[number](True)
            self.spis[number](False)
