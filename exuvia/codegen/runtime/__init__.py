"""The native core that every architecture shares: address translation, blocks, jumps, exits. One LLVM module, no relocations."""
