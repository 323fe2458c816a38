"""Builds the board-side worker with zig's C compiler, once for each version of its source."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from subprocess import run

from torch_rvv.errors import InstallError
from torch_rvv.knobs import knobs

HERE = Path(__file__).resolve().parent
RISCV = "riscv64-linux-gnu.2.34"
FLAGS = ("-O2", "-Wall", "-pthread", "-ldl")


def compile_c(sources: list[Path], output: Path, flags: tuple[str, ...] = (), target: str | None = RISCV) -> None:
    """Compile C for riscv64 Linux (target None: for this machine).

    Raises InstallError without the compiler, or with its messages.
    """
    try:
        import ziglang
    except ImportError:
        raise InstallError("the C compiler for the board's worker is missing", hint="pip install ziglang") from None
    zig = Path(ziglang.__file__).parent / "zig"
    cache = knobs.cache_dir / "zig"
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
    command = [
        str(zig), "cc", *(("-target", target) if target else ()), "-O2", "-Wall", f"-I{HERE / 'include'}",
        *flags, "-o", str(output), *map(str, sources),
    ]  # fmt: skip
    done = run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise InstallError(f"the C compiler failed:\n{done.stderr.strip()}")


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The file of this name in the cache folder, by make(path) if there is none yet.

    Processes may make it at once: each renames a file of its own to the same place. Raises OSError.
    """
    target = knobs.cache_dir / name
    if not target.exists():
        knobs.cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=knobs.cache_dir) as folder:
            make(made := Path(folder, name))
            made.rename(target)
    return target


def worker() -> Path:
    """The worker's executable, built if this version of its source never was. Raises InstallError."""
    sources = sorted((HERE / "worker").glob("*.c"))
    digest = hashlib.sha256(repr((RISCV, FLAGS, version("ziglang"))).encode())
    for path in [*sources, *sorted((HERE / "include").glob("*.h"))]:
        digest.update(path.read_bytes())
    try:
        return kept(f"worker-{digest.hexdigest()[:16]}", lambda made: compile_c(sources, made, FLAGS))
    except OSError as error:
        raise InstallError(
            f"cannot write the board's worker: {error}", hint="TORCH_RVV_CACHE_DIR names another folder."
        ) from None
