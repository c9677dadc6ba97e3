"""The arrows between folders (docs/architecture.md): which part of the package may import which, and who may import LLVM."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import exuvia

ROOT = Path(exuvia.__file__).parent
ANY = "support"  # what everybody may import, besides itself and the package's own name

ARROWS = {
    "support": "",
    "memory": "",
    "devices": "memory",
    "disk": "",
    "backends": "",
    "monitor": "",
    "guests": "backends",
    "boot": "memory",
    "dsl": "",
    "isa": "dsl",
    "codegen": "dsl",
    "vcpu": "codegen dsl isa memory",
    "machines": "boot devices isa memory vcpu",
    "snapshot": "memory",
    "debug": "dsl isa",
    "ui": "backends",
    "cli": "backends codegen debug devices disk guests isa machines monitor snapshot ui vcpu",
}
ONLY_CODEGEN = "llvmlite"


def sources() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import in a file, those inside functions too."""
    package = ("exuvia", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            if module == "exuvia":
                for alias in node.names:
                    yield node.lineno, f"exuvia.{alias.name}"
            else:
                yield node.lineno, module


def violations(path: Path) -> list[str]:
    """What in a file goes against the arrows."""
    parts = path.relative_to(ROOT).parts
    folder = parts[0] if len(parts) > 1 else ""
    found = []
    for line, name in imported(path):
        words = name.split(".")
        where = f"{path.relative_to(ROOT.parent)}:{line}"
        if words[0] == ONLY_CODEGEN and folder != "codegen":
            found.append(f"{where}: only exuvia/codegen imports {ONLY_CODEGEN}")
        if words[0] != "exuvia" or len(words) == 1 or not folder or not (ROOT / words[1]).is_dir():
            continue
        if words[1] not in {folder, ANY, *ARROWS[folder].split()}:
            found.append(f"{where}: exuvia/{folder} does not import exuvia/{words[1]}")
    return found


def test_every_folder_has_its_place() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(ARROWS), "name the new folder and what it imports in ARROWS and in docs/architecture.md"


def test_the_arrows() -> None:
    found = [violation for path in sources() for violation in violations(path)]
    assert not found, "\n".join(found)


def test_the_arrows_make_no_circle() -> None:
    left = {folder: set(targets.split()) for folder, targets in ARROWS.items()}
    while left:
        free = [folder for folder, targets in left.items() if not targets & set(left)]
        assert free, f"a circle among {', '.join(left)}"
        for folder in free:
            del left[folder]


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        ("devices", "from exuvia.machines import machine"),
        ("devices", "import exuvia.vcpu.clock"),
        ("isa", "from exuvia.codegen import build"),
        ("isa", "from exuvia import memory"),
        ("disk", "from ..devices import device"),
        ("vcpu", "import llvmlite.binding"),
        ("support", "def f():\n    from exuvia.cli import main"),
    ],
)
def test_a_wrong_arrow_is_found(folder: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ARROWS:
        (tmp_path / "exuvia" / name).mkdir(parents=True)
    path = tmp_path / "exuvia" / folder / "new.py"
    path.write_text(line + "\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path / "exuvia")
    assert len(violations(path)) == 1
