"""python -m torch_rvv bench: the suites, by name, and what is done with their results."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch._inductor.codecache import write_atomic
from torch_rvv.benchmarks import cases, compiletime, html, measure, modelsuite, table
from torch_rvv.benchmarks.peers import Peer, inductor_cpp, iree, openblas, plain_c

from torch_rvv.errors import OptionError
from torch_rvv.knobs import knobs


@dataclass(frozen=True)
class Options:
    """only: names of cases or models, comma-separated. peers: names of peers, "none", or None for all. blocks: how
    many of its hottest blocks each row of `kernels` and `gemm` shows."""

    only: str | None = None
    peers: str | None = None
    blocks: int = 0


def all_peers() -> list[Peer]:
    return [*plain_c.peers(), *inductor_cpp.peers(), *iree.peers(), *openblas.peers()]


def select_peers(names: str | None) -> list[Peer]:
    """The peers of a comma-separated list of names. Raises OptionError for an unknown one."""
    if names == "none":
        return []
    known = {peer.name: peer for peer in all_peers()}
    wanted = names.split(",") if names else list(known)
    for name in wanted:
        if name not in known:
            raise OptionError(f"Unknown peer {name!r}", hint=f"Known: {', '.join(known)}, or none.")
    return [known[name] for name in wanted]


def run_cases(options: Options, suite: str) -> Iterator[measure.Result]:
    """Every case of a suite on every system; a line to stderr as each is done."""
    peers = select_peers(options.peers)
    for case in cases.select(options.only, suite):
        yield from measure.rows(case, knobs.vlen, [(p.name, p.build) for p in peers if p.applies(case)], options.blocks)
        print(f"{case.name}: done", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Suite:
    """How to run it, one result after the other, and results as text and as a page. Each result has to_json()."""

    run: Callable[[Options], Iterator[Any]]
    text: Callable[[Sequence[Any]], str]
    page: Callable[[Sequence[Any]], str]


SUITES = {
    "kernels": Suite(lambda options: run_cases(options, "kernels"), table.kernels, html.kernels),
    "gemm": Suite(lambda options: run_cases(options, "gemm"), table.products, html.kernels),
    "models": Suite(lambda options: modelsuite.run(options.only, options.peers), modelsuite.text, modelsuite.page),
    "compile": Suite(lambda options: compiletime.run(options.only), compiletime.text, compiletime.page),
}


def main(suite: str, options: Options, json_file: str | None, html_file: str | None) -> int:
    """Run a suite, print its table, write the files asked for. Exit code: 1 if ours lacks figures under a limit.

    The JSON file has what is done so far at any time: a suite can take hours.
    """
    results = []
    for result in SUITES[suite].run(options):
        results.append(result)
        if json_file:
            write_atomic(json_file, json.dumps([r.to_json() for r in results], indent=1))
    print(SUITES[suite].text(results))
    if html_file:
        Path(html_file).write_text(SUITES[suite].page(results))
    return int(any(r.failed for r in results))
