"""The report as one page that needs no server and nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from torch_rvv.benchmarks import svg, table
from torch_rvv.benchmarks.compare import Comparison, compare, summary
from torch_rvv.benchmarks.cycles import MEMORY_BYTES_PER_CYCLE
from torch_rvv.benchmarks.measure import OURS, Result

_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}"
    "svg{width:100%;height:auto}pre{overflow-x:auto;font-size:11px;background:#f6f6f6;padding:1em}"
    ".legend i{display:inline-block;width:1em;height:1em;margin-right:.3em;vertical-align:-2px}"
    ".legend span{margin-right:1.2em}"
)


def page(title: str, *parts: str) -> str:
    """A whole HTML document."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join(parts)
    head += f"<style>{_STYLE}</style>"
    return (
        f"<!doctype html>\n<html lang=en><head>{head}</head>\n<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def kernels(results: Sequence[Result]) -> str:
    """The suite `kernels`: what it comes to, a roofline, bars of cycles and of instructions, the table."""
    comparisons = compare(results)
    systems = list(dict.fromkeys([OURS, *(r.system for r in results)]))
    palette = svg.colours(systems)
    parts = [
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in summary(comparisons)) + "</ul>",
        svg.legend(palette),
    ]
    parts += [
        "<h2>Roofline</h2>",
        "<p>A core of the K1: 16 FLOP a cycle in f32, 7 GB/s from memory. Speed is the slower of the modelled "
        "cycles and of what memory gives. Names are at our points; what is above the roof fits into the caches.</p>",
        svg.roofline(_points(comparisons), palette, MEMORY_BYTES_PER_CYCLE),
    ]
    for heading, figure in (("Modelled cycles an element", "cycles"), ("Instructions an element", "instructions")):
        groups = {c.ours.case: _values(c, figure) for c in comparisons}
        parts += [f"<h2>{heading}</h2>", svg.bars(groups, palette, heading.lower())]
    return page("torch_rvv: kernels", *parts, "<h2>Table</h2>", f"<pre>{escape(table.kernels(results))}</pre>")


def _values(c: Comparison, figure: str) -> dict[str, float]:
    return {r.system: (getattr(r, figure) or 0.0) / r.elements for r in (c.ours, *c.peers)}


def _points(comparisons: Sequence[Comparison]) -> list[svg.Point]:
    out = []
    for c in comparisons:
        for r in (c.ours, *c.peers):
            if r.cycles and r.flops and r.bytes:
                speed = r.flops / max(r.cycles, r.cycles_memory or 0.0)
                out.append(svg.Point(r.case, r.system, r.flops / r.bytes, speed))
    return out
