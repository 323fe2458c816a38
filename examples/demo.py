"""GPT-2 and ResNet, compiled for RVV and run on the virtual board: what `make demo` shows."""

import time

import torch
from torch_rvv.benchmarks.models import build

import torch_rvv


def show(name: str) -> None:
    model, inputs = build(name)
    with torch.no_grad():
        expected = model(**inputs).logits
        start = time.perf_counter()
        report = torch_rvv.explain(model, **inputs)
        compiled = torch.compile(model, backend="rvv")
        logits = compiled(**inputs).logits
    print(f"== {name}: compiled and run in {time.perf_counter() - start:.1f} s on {torch_rvv.get_device().name}")
    print(report)
    print(f"largest difference from eager PyTorch: {(logits - expected).abs().max():.2e}\n")
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    for name in ("gpt2", "resnet"):
        show(name)
