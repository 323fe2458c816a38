"""OpenBLAS's kernels for RVV at VLEN 256, for matrix products and what can be put in terms of them.

The library is that of the package scipy-openblas32 for riscv64; `python -m torch_rvv.benchmarks.peers.openblas` has pip
download it, as a file, for it is for another machine. It asks for a newer C library than Debian 12's, for one function
that reads numbers from environment variables: that demand is made a wish in our copy, and the function is given.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import run

import torch
from torch_rvv.benchmarks.cases import Case
from torch_rvv.benchmarks.emulate import NATIVE
from torch_rvv.benchmarks.jobs import Job
from torch_rvv.benchmarks.peers import Checks, Unavailable, blas
from torch_rvv.benchmarks.peers.plain_c import CLANG_CPU
from torch_rvv.runtime.build import compile_c

from torch_rvv.knobs import knobs

VERSION = "0.3.34.481.3"
MEMBER = "scipy_openblas32/lib/libscipy_openblas.so"
NEWER = b"GLIBC_2.38"
# Without a name it takes generic code under emulation, for it asks the kernel for the vector length.
ENVIRONMENT = {"OPENBLAS_CORETYPE": "RISCV64_ZVL256B", "OPENBLAS_NUM_THREADS": "1"}
SOURCES = ("openblas.c", "openblas_convolution.c")
_FOLDER = tempfile.TemporaryDirectory()
_NEEDED_VERSIONS, _WEAK = 0x6FFFFFFE, 2


def folder() -> Path:
    """Where the package's file is looked for."""
    return knobs.cache_dir / "bench"


def download() -> None:
    """Get the package. Raises CalledProcessError when pip cannot."""
    wanted = ["--no-deps", "--only-binary=:all:", "--platform=manylinux_2_39_riscv64", f"scipy-openblas32=={VERSION}"]
    run([sys.executable, "-m", "pip", "download", "-q", f"--dest={folder()}", *wanted], check=True)


def library() -> bytes:
    """The shared library. Raises Unavailable when the package is not there."""
    found = sorted(folder().glob(f"scipy_openblas32-{VERSION}-*riscv64*.whl"))
    if not found:
        raise Unavailable("OpenBLAS: python -m torch_rvv.benchmarks.peers.openblas downloads it")
    with zipfile.ZipFile(found[0]) as package:
        return package.read(MEMBER)


def without_version(elf: bytes, name: bytes) -> bytes:
    """A 64-bit little-endian ELF library that runs without a version of a library that it needs.

    The entry for the version is marked weak: the dynamic linker then does not insist. Raises ValueError if there is
    none.
    """
    sections_at = struct.unpack_from("<Q", elf, 0x28)[0]
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQII", elf, sections_at + i * size) for i in range(count)]
    out = bytearray(elf)
    for _, kind, _, _, at, _, link, entries in headers:
        if kind != _NEEDED_VERSIONS:
            continue
        strings = headers[link][4]
        for _ in range(entries):
            _, versions, _, first, following = struct.unpack_from("<HHIII", elf, at)
            one = at + first
            for _ in range(versions):
                _, flags, _, text, step = struct.unpack_from("<IHHII", elf, one)
                if elf[strings + text : elf.index(b"\0", strings + text)] == name:
                    struct.pack_into("<H", out, one + 4, flags | _WEAK)
                    return bytes(out)
                one += step
            at += following
    raise ValueError(f"nothing of version {name.decode()} is needed")


@dataclass
class OpenBlas:
    """What blas.py makes of products, convolutions and attention, in f32."""

    name: str = "openblas"

    def applies(self, case: Case) -> bool:
        return case.kind in KINDS and case.dtype == torch.float32

    def build(self, case: Case) -> tuple[Job, Checks]:
        inputs = case.inputs()
        expected = case.function(*inputs)
        job = Job(environment=dict(ENVIRONMENT))
        out = job.add(bytes(expected.untyped_storage().nbytes()))
        job.steps.append(KINDS[case.kind](case, inputs).step(job, out, built()))
        job.outputs = [out.buffer]
        return job, [(out.buffer, expected)]


# kind of a case: its call
KINDS: dict[str, Callable[[Case, Sequence[torch.Tensor]], blas.Call]] = {
    "matmul": lambda case, t: blas.product(t[0], t[1]),
    "linear": lambda case, t: blas.product(t[0], t[1].t()),
    "bmm": lambda case, t: blas.product(t[0], t[1]),
    "conv": lambda case, t: blas.convolution(t[0], t[1], None, *case.geometry),
    "depthwise": lambda case, t: blas.convolution(t[0], t[1], None, *case.geometry),
    "attention": lambda case, t: blas.attention(t[0], t[1], t[2]),
}


@cache
def built() -> Path:
    """Our C functions as a library, linked to OpenBLAS, which stands beside it. Raises Unavailable."""
    where = Path(_FOLDER.name)
    made, held = where / "blas.so", where / Path(MEMBER).name
    held.write_bytes(without_version(library(), NEWER))
    flags = ("-shared", "-fPIC", f"-L{where}", "-lscipy_openblas", f"-Wl,-rpath,{where}")
    compile_c(
        [NATIVE / name for name in SOURCES],
        made,
        ("-O3", "-ffast-math", CLANG_CPU, *flags, "-Wl,--allow-shlib-undefined"),
    )
    return made


def peers() -> list[OpenBlas]:
    return [OpenBlas()]


if __name__ == "__main__":
    download()
