"""Digest of a rule's script with all livermet code that it reaches.

Snakemake reruns a rule when its script changes, but not when a module that the script imports does. A rule therefore
carries this digest as a param: exactly the rules that reach an edited module rerun.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "livermet"


def script_digest(script: Path, *, library: Path) -> str:
    """Digest over a script, the modules of livermet that it imports (also indirectly) and their resource files.

    Parameters
    ----------
    script
        The Python file that a rule runs.
    library
        The folder that holds the ``livermet`` package.

    Returns
    -------
    Sixteen hexadecimal digits. Files count by content and by place within the project, never by time.
    """
    package = library / PACKAGE
    seen: set[Path] = set()
    queue = [script]
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        queue += _reached(path, package)
    digest = hashlib.sha256()
    for path in sorted(seen, key=lambda p: _place(p, package)):
        digest.update(_place(path, package).encode())
        digest.update(_content(path))
    return digest.hexdigest()[:16]


def _place(path: Path, package: Path) -> str:
    return path.relative_to(package).as_posix() if path.is_relative_to(package) else path.name


@cache
def _content(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


@cache
def _reached(path: Path, package: Path) -> list[Path]:
    """Files of the package that one Python file names: imported modules, and resources by their file name."""
    if path.suffix != ".py":
        return []
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    names: set[str] = set()
    literals: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, path, package)
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            literals.add(node.value)
    reached = [module for name in names if name.split(".")[0] == PACKAGE for module in _modules(name, package)]
    for folder in ("resources", "templates"):
        if folder in literals:  # a module that opens a folder of data files depends on what it names there, or on all
            data = sorted(p for p in (package / folder).rglob("*") if p.is_file())
            named = [p for p in data if p.name in literals]
            reached += named or data
    return reached


def _absolute(node: ast.ImportFrom, path: Path, package: Path) -> str:
    if not node.level:
        return node.module or ""
    parents = (PACKAGE, *path.relative_to(package).parts)[: -node.level]
    return ".".join((*parents, node.module) if node.module else parents)


def _modules(name: str, package: Path) -> list[Path]:
    """Files that importing a dotted name runs: the module and the ``__init__`` of each package above it."""
    parts = name.split(".")[1:]
    files = [package / "__init__.py"]
    for depth in range(1, len(parts) + 1):
        place = package.joinpath(*parts[:depth])
        files += [p for p in (place / "__init__.py", place.with_suffix(".py")) if p.is_file()]
    return files
