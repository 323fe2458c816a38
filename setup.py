"""Packaging: the top-level folders become the package torch_rvv and its sub-packages."""

from setuptools import setup

setup(
    name="torch_rvv",
    version="0.1.0",
    description="An Inductor backend for RISC-V with the vector extension: torch.compile(model, backend='rvv')",
    python_requires=">=3.10",
    packages=[
        "torch_rvv",
        "torch_rvv.plugin",
        "torch_rvv.lowering",
        "torch_rvv.lowering.vecmath",
        "torch_rvv.runtime",
        "torch_rvv.benchmarks",
        "torch_rvv.benchmarks.peers",
    ],
    package_dir={
        "torch_rvv": "torch_rvv",
        "torch_rvv.lowering": "lowering",
        "torch_rvv.runtime": "runtime",
        "torch_rvv.benchmarks": "benchmarks",
    },
    package_data={
        "torch_rvv.runtime": ["include/*.h", "worker/*.c"],
        "torch_rvv.benchmarks": ["native/*.[ch]"],
    },
    install_requires=[
        "torch==2.13.0",
        "triton==3.7.1",
        "llvmlite==0.50.0",
        "torch-mlir>=20261001,<20261101",
        "ziglang>=0.17.1,<0.18",
        "sympy",
        "numpy",
    ],
    extras_require={
        # A peer to compare with, not needed to run or to test.
        "bench": ["iree-base-compiler==3.13.0"],
        "test": [
            "pytest>=9,<10",
            "pytest-xdist>=3.8,<4",
            "transformers==5.23.0",
            "ruff==0.17.6",
            "mypy==2.4.1",
            "expecttest==0.3.0",  # PyTorch's database of operators imports it.
        ],
    },
    entry_points={
        "torch_dynamo_backends": ["rvv = torch_rvv.backend:rvv"],
        "triton.backends": ["cpu = torch_rvv.plugin"],
    },
)
