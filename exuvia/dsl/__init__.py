"""The language in which `isa/` describes processors: guest values, traces, state, record fields. It knows no processor and no LLVM."""
