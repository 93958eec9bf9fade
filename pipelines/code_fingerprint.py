"""A hash of the source that a node runs, so that editing it runs the node again.

TFX caches a node by its inputs and parameters; code reached through a dotted name is neither. Every
node therefore carries this hash as a parameter. It covers a module and all modules of this project that
it imports, directly or not, as syntax trees: comments and layout do not count.
"""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
PACKAGES = frozenset(p.parent.name for p in _ROOT.glob("*/__init__.py"))


def compute_code_fingerprint(*modules: str) -> str:
    """Hashes the source of modules and of the project's modules they import.

    Args:
      *modules: dotted names, e.g. "trainers.retrieval.runner".

    Raises:
      ModuleNotFoundError: if there is no such module in the project.
    """
    pending, seen = list(modules), dict[str, str]()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen[name], imported = _read_module(name)
            pending.extend(imported)
    digest = hashlib.sha256("\n".join(f"{name} {seen[name]}" for name in sorted(seen)).encode())
    return digest.hexdigest()[:16]


@functools.cache
def _read_module(name: str) -> tuple[str, tuple[str, ...]]:
    """The hash of a module's syntax tree, and the project's modules it imports."""
    path = _find(name)
    if path is None:
        raise ModuleNotFoundError(f"no module {name!r} in this project")
    tree = ast.parse(path.read_bytes())
    imported = tuple(sorted({m for m in _imports(tree, name) if m != name}))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported


def _imports(tree: ast.Module, importer: str) -> Iterator[str]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, importer.rpartition(".")[0])
            # `from package import module` names a module; `from module import function` does not.
            names = [base] + [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] in PACKAGES and _find(name) is not None:
                yield name


def _find(name: str) -> Path | None:
    stem = _ROOT.joinpath(*name.split("."))
    candidates = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)
