"""Target: what the generated code may assume about the machine it runs on."""

from __future__ import annotations

from dataclasses import dataclass

from torch_rvv.errors import OptionError

_BASE = ("m", "a", "f", "d", "c", "v")
_RVA22 = (*_BASE, "zba", "zbb", "zbs", "zfh", "zvfh")


@dataclass(frozen=True)
class Target:
    """A RISC-V machine, as far as code generation is concerned.

    `features` are ISA extensions in LLVM's spelling without the plus sign. `min_vlen` is a promise
    (bits) that the code may rely on; generated code stays right at every larger VLEN. `tune` names an
    LLVM scheduling model and never changes which instructions are legal. `cores` and `vlen` describe
    the board: how many threads it has, and the VLEN that heuristics aim at. `matrix` is a unit that int8 products
    may use: "ime", SpacemiT's smt.vmadot, which means a VLEN of just 256 bits.
    """

    name: str
    features: tuple[str, ...] = _BASE
    min_vlen: int = 128
    tune: str = "generic-rv64"
    cores: int = 1
    vlen: int = 256
    matrix: str | None = None

    def __post_init__(self) -> None:
        for what, bits in (("min_vlen", self.min_vlen), ("vlen", self.vlen)):
            if bits < 128 or bits > 65536 or bits & (bits - 1):
                raise OptionError(
                    f"Target {what}={bits} is not a VLEN", hint="A VLEN is a power of two from 128 to 65536 bits."
                )
        if "v" not in self.features:
            raise OptionError(f"Target {self.name!r} has no vector extension", hint="Add 'v' to its features.")
        if self.matrix not in (None, "ime"):
            raise OptionError(f"Unknown matrix unit {self.matrix!r}", hint="Known: None, 'ime'.")
        if self.matrix == "ime" and self.vlen != 256:
            raise OptionError(f"Target {self.name!r} has VLEN {self.vlen}", hint="The matrix unit 'ime' has VLEN 256.")

    def has(self, extension: str) -> bool:
        """Whether the machine has an ISA extension ("zvfh", "zvfbfmin", ...)."""
        return extension in self.features

    @property
    def isa(self) -> str:
        """The ISA string, e.g. "rv64imafdcv_zba_zvfh"."""
        single = "".join(f for f in self.features if len(f) == 1)
        multi = "_".join([*(f for f in self.features if len(f) > 1), *(["xsmtvdot"] if self.matrix == "ime" else [])])
        return f"rv64i{single}" + (f"_{multi}" if multi else "")

    @property
    def llvm_features(self) -> str:
        """The feature string for LLVM ("+m,+a,...")."""
        zvl = (f"zvl{self.min_vlen}b",) if self.min_vlen > 128 else ()
        return ",".join("+" + f for f in (*self.features, *zvl))


TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("rv64gcv"),
        Target("k1", _RVA22, tune="spacemit-x60", cores=8),
        Target("k1-ime", _RVA22, min_vlen=256, tune="spacemit-x60", cores=4, matrix="ime"),
        Target("k3", _RVA22, tune="spacemit-x60", cores=8),
        Target("k3-a100", _RVA22, tune="spacemit-x60", cores=8, vlen=1024),
    )
}
DEFAULT_TARGET = TARGETS["k1"]


def resolve_target(value: str | Target | None) -> Target:
    """A Target from an option value: a Target, the name of a known board, or None for the default.

    Raises OptionError naming the known boards.
    """
    if value is None:
        return DEFAULT_TARGET
    if isinstance(value, Target):
        return value
    if value in TARGETS:
        return TARGETS[value]
    raise OptionError(
        f"Unknown target {value!r}",
        hint=f"Known targets: {', '.join(TARGETS)}; or pass a torch_rvv.Target(...).",
    )
