"""Pictures as inline SVG: a roofline, and bars on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#1764ab", "#d9822b", "#6b9e3f", "#a05195", "#7a7a7a", "#c23b3b", "#2a9d8f", "#b8a100")
PEAK_FLOPS_PER_CYCLE = 16.0  # K1, f32: one multiply-add of eight lanes a cycle


@dataclass(frozen=True)
class Point:
    """intensity: FLOP a byte. speed: FLOP a cycle."""

    label: str
    system: str
    intensity: float
    speed: float


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str = 'stroke="#ddd"') -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def legend(colours: Mapping[str, str]) -> str:
    """The systems' colours as HTML."""
    marks = [f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in colours.items()]
    return f'<p class="legend">{" ".join(marks)}</p>'


def colours(systems: Sequence[str]) -> dict[str, str]:
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(systems)}


def roofline(points: Sequence[Point], palette: Mapping[str, str], bytes_per_cycle: float) -> str:
    """FLOP a cycle over FLOP a byte, both logarithmic, under the roofs of memory and of arithmetic."""
    if not points:
        return "<p>Nothing to draw.</p>"
    width, height, left, bottom = 900.0, 460.0, 60.0, 40.0
    x0, x1 = math.floor(math.log10(min(p.intensity for p in points))), 2
    y0, y1 = math.floor(math.log10(min(p.speed for p in points))), math.log10(PEAK_FLOPS_PER_CYCLE) + 0.3

    def at(intensity: float, speed: float) -> tuple[float, float]:
        return (
            left + (math.log10(intensity) - x0) / (x1 - x0) * (width - left - 20),
            height - bottom - (math.log10(speed) - y0) / (y1 - y0) * (height - bottom - 20),
        )

    out = [f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img">']
    for power in range(x0, x1 + 1):
        x, y = at(10.0**power, 10.0**y0)
        out += [_line(x, y, x, 20), _text(x, y + 16, f"{10.0**power:g}", "middle")]
    for power in range(y0, 2):
        x, y = at(10.0**x0, 10.0**power)
        out += [_line(x, y, width - 20, y), _text(x - 6, y + 4, f"{10.0**power:g}", "end")]
    ridge = PEAK_FLOPS_PER_CYCLE / bytes_per_cycle
    low = max(10.0**x0, 10.0**y0 / bytes_per_cycle)
    roof = 'stroke="#333" stroke-width="2"'
    out.append(_line(*at(low, low * bytes_per_cycle), *at(ridge, PEAK_FLOPS_PER_CYCLE), roof))
    out.append(_line(*at(ridge, PEAK_FLOPS_PER_CYCLE), *at(10.0**x1, PEAK_FLOPS_PER_CYCLE), roof))
    for p in points:
        x, y = at(p.intensity, p.speed)
        title = escape(f"{p.label}, {p.system}: {p.speed:.3g} FLOP a cycle at {p.intensity:.3g} FLOP a byte")
        out.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{palette[p.system]}"><title>{title}</title></circle>'
        )
        if p.system == next(iter(palette)) and "/" not in p.label:  # Variants would lie on each other.
            out.append(_text(x + 6, y + 3, p.label, size=9))
    out.append(_text(width / 2, height - 6, "FLOP a byte that must move", "middle"))
    out.append(_text(left, 14, "FLOP a cycle (modelled)"))
    return "".join([*out, "</svg>"])


def bars(groups: Mapping[str, Mapping[str, float]], palette: Mapping[str, str], unit: str) -> str:
    """One group of horizontal bars a case, one bar a system, on one logarithmic scale."""
    values = [v for group in groups.values() for v in group.values() if v > 0]
    if not values:
        return "<p>Nothing to draw.</p>"
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)
    width, left, bar, gap = 900.0, 150.0, 9.0, 8.0
    height = 30 + sum(len(g) * bar + gap for g in groups.values())

    def x(value: float) -> float:
        return left + (math.log10(value) - low) / (high - low) * (width - left - 80)

    out = [f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img">']
    for power in range(low, high + 1):
        out += [
            _line(x(10.0**power), 16, x(10.0**power), height),
            _text(x(10.0**power), 12, f"{10.0**power:g}", "middle"),
        ]
    y = 22.0
    for name, group in groups.items():
        out.append(_text(left - 8, y + len(group) * bar / 2 + 4, name, "end"))
        for system, value in group.items():
            if value > 0:
                end = x(value)
                out.append(
                    f'<rect x="{left:.0f}" y="{y:.1f}" width="{max(end - left, 1):.1f}" height="{bar - 1:.0f}" '
                    f'fill="{palette[system]}"><title>{escape(f"{name}, {system}: {value:.3g} {unit}")}</title></rect>'
                )
                out.append(_text(end + 3, y + 7, f"{value:.3g}", size=8))
            y += bar
        y += gap
    return "".join([*out, "</svg>"])
