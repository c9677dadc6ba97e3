"""VHDX: Microsoft's virtual hard disk, version 2 ([MS-VHDX]), by chapter."""
