"""How processors run natively: the only folder that imports llvmlite. It knows no architecture."""
