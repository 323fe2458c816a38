"""Triton's part of every cache key: a digest of its files, without reading its library anew in each process.

Triton reads its 460 MB of library for that, half a second of each process's first compile. Like ccache, we take a
library whose path, size and time of change are those of last time for the same one.
"""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

import triton

from torch_rvv.knobs import knobs

# Where Triton's own function is known by name, before PyTorch takes it from there.
HOLDERS = ("triton.runtime.cache", "triton.runtime.autotuner")


def install() -> None:
    """Let ours stand in for Triton's own."""
    for name in HOLDERS:
        if name in sys.modules:
            sys.modules[name].triton_key = triton_key  # type: ignore[attr-defined]


@cache
def triton_key() -> str:
    """Triton's version, and a digest of its files."""
    root = Path(triton.__file__).parent
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    for path in sorted(root.glob("_C/*.so")):
        found.update(_library_digest(path))
    return f"{triton.__version__}-{found.hexdigest()}"


def _library_digest(path: Path) -> bytes:
    stat = path.stat()
    held = hashlib.sha256(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()
    note = knobs.cache_dir / f"digest-{held[:24]}"
    if note.exists():
        return note.read_bytes()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    with suppress(OSError):  # A folder that cannot be written costs time only.
        note.parent.mkdir(parents=True, exist_ok=True)
        made = note.with_suffix(f".{uuid4().hex}")
        made.write_bytes(digest)
        made.rename(note)
    return digest
