"""LLVM IR with inline assembly → assembly text or an object.

The in-process LLVM has no parser of this target's assembly. The compiler is the one that the linker comes
with; the IR has been optimised already.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from subprocess import run

from torch_rvv.errors import Declined, InstallError


def compile_ir(text: str, to_text: bool) -> bytes:
    """The riscv64 ELF object of LLVM IR text, or its assembly.

    Raises Declined with the assembler's messages.
    """
    try:
        import ziglang
    except ImportError:
        raise InstallError("the assembler is missing", hint="pip install ziglang") from None
    binary = Path(ziglang.__file__).parent / "zig"
    with tempfile.TemporaryDirectory(prefix="torch_rvv_") as folder:
        source, result = Path(folder, "k.ll"), Path(folder, "k.out")
        source.write_text(text)
        done = run(
            [
                str(binary), "cc", "-target", "riscv64-linux-gnu", "-mcpu=baseline_rv64+v", "-O2", "-fPIC", "-w",
                "-S" if to_text else "-c", "-o", str(result), str(source),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder},
        )  # fmt: skip
        if done.returncode:
            lines = [line for line in done.stderr.split("\n") if "error:" in line]
            raise Declined("the assembler refuses the inline assembly: " + "; ".join(lines or [done.stderr])[:400])
        return result.read_bytes()
