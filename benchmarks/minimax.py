"""Derives the polynomial coefficients of lowering/vecmath: `python -m torch_rvv.benchmarks.minimax [NAME ...]`.

Each row is a function g, a weight w and an interval: Remez's exchange finds the polynomial P for which the largest
|w * (g - P)| is smallest. Coefficients are then rounded to the type one by one, lowest degree first, and the
others fitted again, so that the error of rounding is made good by the next ones. Without names, all rows are
done (minutes) and lowering/vecmath/coefficients.py is written; with names, only those are printed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mpmath as mp
import numpy as np

mp.mp.dps = 50
Function = Callable[[mp.mpf], mp.mpf]


@dataclass(frozen=True)
class Row:
    """P(x) ≈ g(x) on an interval, `count` coefficients, error weighted by w, stored in f32 or f64."""

    g: Function
    w: Function
    low: object
    high: object
    count: int
    bits: int


def remez(g: Function, w: Function, low: mp.mpf, high: mp.mpf, count: int) -> tuple[list[mp.mpf], mp.mpf]:
    """The coefficients and the largest weighted error."""
    n = count + 1
    middle, half = (low + high) / 2, (high - low) / 2
    # Nodes are off their exact places a little, so that none falls on a zero of the weight.
    nodes = [middle - half * mp.cos(mp.pi * (i + mp.mpf("0.02")) / n) for i in range(n)]
    dense = [middle - half * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / (12 * n)) for i in range(12 * n)]
    table = {x: (g(x), w(x)) for x in [low, *dense, high]}
    best: tuple[list[mp.mpf], mp.mpf] | None = None
    for _ in range(12):
        rows, right = [], []
        for i, x in enumerate(nodes):
            gx, wx = table[x] if x in table else (g(x), w(x))
            rows.append([x**j for j in range(count)] + [(-1) ** i / wx])
            right.append(gx)
        solution = list(mp.lu_solve(mp.matrix(rows), mp.matrix(right)))
        c = solution[:count]
        errors = [(x, wx * (gx - mp.polyval(c[::-1], x))) for x, (gx, wx) in table.items()]
        worst = max(abs(e) for _, e in errors)
        if best is None or worst < best[1]:
            best = (c, worst)
        extremes = _extremes(errors, n)
        if extremes is None or worst <= abs(solution[count]) * mp.mpf("1.02"):
            break
        nodes = extremes
    assert best is not None
    return best


def _extremes(errors: list[tuple[mp.mpf, mp.mpf]], n: int) -> list[mp.mpf] | None:
    """n points of alternating sign and greatest error, or None when there are not so many."""
    runs: list[tuple[mp.mpf, mp.mpf]] = []
    for x, e in errors:
        if runs and (runs[-1][1] > 0) == (e > 0):
            if abs(e) > abs(runs[-1][1]):
                runs[-1] = (x, e)
        else:
            runs.append((x, e))
    while len(runs) > n:
        runs.pop(0 if abs(runs[0][1]) < abs(runs[-1][1]) else -1)
    return [x for x, _ in runs] if len(runs) == n else None


def rounded(value: mp.mpf, bits: int) -> float:
    """The nearest f32 or f64, as a Python float."""
    return float(np.float32(float(value))) if bits == 32 else float(value)


def absorb(delta: mp.mpf, power: int, count: int, points: list[tuple[mp.mpf, mp.mpf]]) -> list[mp.mpf]:
    """Coefficients of the `count` powers above `power` that best stand in for delta * x**power."""
    unit = max(abs(x) for x, _ in points)
    rows = mp.matrix([[w * (x / unit) ** (power + 1 + j) for j in range(count)] for x, w in points])
    right = mp.matrix([w * delta * x**power for x, w in points])
    solution = mp.lu_solve(rows.T * rows, rows.T * right)
    return [c / unit ** (power + 1 + j) for j, c in enumerate(solution)]


def fit(row: Row) -> tuple[list[float], mp.mpf]:
    """Rounded coefficients and the largest weighted error that they leave."""
    low, high = mp.mpf(row.low), mp.mpf(row.high)
    exact, _ = remez(row.g, row.w, low, high, row.count)
    middle, half, n = (low + high) / 2, (high - low) / 2, 4 * row.count
    points = [middle - half * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / n) for i in range(n)]
    weighted = [(x, row.w(x)) for x in points]
    done: list[float] = []
    for i in range(row.count):
        done.append(rounded(exact[i], row.bits))
        rest = row.count - i - 1
        if rest and i < 8:
            change = absorb(exact[i] - done[i], i, rest, weighted)
            exact[i + 1 :] = [c + d for c, d in zip(exact[i + 1 :], change, strict=True)]
    points = [low + (high - low) * (i + mp.mpf(1) / 2) / 200 for i in range(200)] + [low, high]
    error = max(abs(row.w(x) * (row.g(x) - mp.polyval([mp.mpf(c) for c in done[::-1]], x))) for x in points)
    return done, error


def one(_: mp.mpf) -> mp.mpf:
    return mp.mpf(1)


def at_zero(g: Function, limit: object) -> Function:
    """g with its limit at 0, where the formula is 0/0."""
    return lambda x: mp.mpf(limit) if abs(x) < mp.mpf(10) ** -18 else g(x)


def of_square(g: Function) -> Function:
    """x² → g(x)."""
    return lambda z: g(mp.sqrt(z))


HALF_LN2 = mp.log(2) / 2 * mp.mpf("1.01")
THIRD = mp.mpf(1) / 3
QUARTER_PI2 = (mp.pi / 4 * mp.mpf("1.001")) ** 2
EXP = at_zero(lambda r: (mp.exp(r) - 1 - r) / r**2, 0.5), lambda r: r * r / mp.exp(r)
# For negative r the result's last place is worth half, so that rounding errors leave less room.
EXP_SHORT = EXP[0], lambda r: r * r * mp.exp(-r * mp.mpf("2.5"))
EXP2 = at_zero(lambda f: (mp.power(2, f) - 1) / f, mp.log(2)), lambda f: abs(f) / mp.power(2, f)
# log(1+f) = f + f² P(f);  with s = f/(2+f): log(1+f) = f - f²/2 + s (f²/2 + s² P(s²))
LOG = at_zero(lambda f: (mp.log(1 + f) - f) / f**2, -0.5), at_zero(lambda f: abs(f * f / mp.log(1 + f)), 0)
LOG_S = (
    at_zero(of_square(lambda s: (mp.log((1 + s) / (1 - s)) / s - 2) / s**2), mp.mpf(2) / 3),
    of_square(lambda s: s * s / 2),
)
SIN = at_zero(of_square(lambda x: (mp.sin(x) / x - 1) / x**2), -mp.mpf(1) / 6), lambda z: z
COS = at_zero(of_square(lambda x: (mp.cos(x) - 1 + x * x / 2) / x**4), mp.mpf(1) / 24), lambda z: z * z
# The same with errors relative to sin x; tanh x = x + x³ P(x²) likewise.
SINE = SIN[0], at_zero(of_square(lambda x: x**3 / mp.sin(x)), 0)
TANH = (
    at_zero(of_square(lambda x: (mp.tanh(x) / x - 1) / x**2), -mp.mpf(1) / 3),
    at_zero(of_square(lambda x: x**3 / mp.tanh(x)), 0),
)
TAN = at_zero(of_square(lambda x: (mp.tan(x) / x - 1) / x**2), mp.mpf(1) / 3), lambda z: z / (1 + z / 3)
ASIN = at_zero(of_square(lambda x: (mp.asin(x) / x - 1) / x**2), mp.mpf(1) / 6), lambda z: z
ATAN = at_zero(of_square(lambda x: (mp.atan(x) / x - 1) / x**2), -mp.mpf(1) / 3), lambda z: z
ERF = at_zero(of_square(lambda x: mp.erf(x) / x - 1), 2 / mp.sqrt(mp.pi) - 1), one


def _erfcx(x: mp.mpf) -> mp.mpf:
    if x < 20:
        return mp.exp(x * x) * mp.erfc(x)
    # Its continued fraction, which mpmath's erfc has not the range for.
    tail = x
    for n in range(60, 0, -1):
        tail = x + mp.mpf(n) / 2 / tail
    return 1 / (tail * mp.sqrt(mp.pi))


def scaled_erfcx(q: mp.mpf) -> mp.mpf:
    """erfcx(x) (x + 2) of q = (x-2)/(x+2)."""
    x = 2 * (1 + q) / (1 - q)
    return _erfcx(x) * (x + 2)


ERFCX = scaled_erfcx, lambda q: 1 / scaled_erfcx(q)

SINH = at_zero(of_square(lambda x: (mp.sinh(x) / x - 1) / x**2), mp.mpf(1) / 6), lambda z: z
COSH = at_zero(of_square(lambda x: (mp.cosh(x) - 1) / x**2), 0.5), lambda z: z


def _erfinv_tail(s: mp.mpf) -> mp.mpf:
    """erfinv(x) / x of s = sqrt(-log(1 - x²)), by Newton's method on log erfc."""
    w = s * s
    # 1 - x = 1 - sqrt(1 - e**-w), without cancellation
    x = mp.sqrt(1 - mp.exp(-w))
    p = mp.exp(-w) / (1 + x)
    y = s * (1 - mp.log(s * s * mp.pi + 1) / (4 * s * s + 4))
    for _ in range(60):
        e = _erfcx(y)
        step = (mp.log(e) - y * y - mp.log(p)) * e * mp.sqrt(mp.pi) / 2
        y += step
        if abs(step) < mp.mpf(10) ** -45 * y:
            break
    return y / x


def erfinv_of_log(w: mp.mpf) -> mp.mpf:
    """erfinv(x) / x of w = -log(1 - x²)."""
    if w < mp.mpf(10) ** -18:
        return mp.sqrt(mp.pi) / 2
    if w < mp.mpf("1.5"):
        x = mp.sqrt(-mp.expm1(-w))
        return mp.erfinv(x) / x
    return _erfinv_tail(mp.sqrt(w))


def log_gamma_middle(v: mp.mpf) -> mp.mpf:
    """log gamma(2+v) / (v (v+1))."""
    if abs(v) < mp.mpf(10) ** -18:
        return 1 - mp.euler
    return mp.loggamma(2 + v) / (v * (v + 1))


def stirling(z: mp.mpf) -> mp.mpf:
    """x (log gamma(x) - (x - 1/2) log x + x - log(2 pi)/2) of z = 1/x²."""
    if z < mp.mpf(10) ** -12:
        return mp.mpf(1) / 12 - z / 360 + z * z / 1260
    x = 1 / mp.sqrt(z)
    return x * (mp.loggamma(x) - (x - mp.mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2)


def _relative(g: Function) -> tuple[Function, Function]:
    return g, lambda x: 1 / abs(g(x))


def bessel_i(order: int) -> tuple[Function, Function]:
    """P with I(x) = (x/2)**order (1 + z P(z)), z = (x/2)²."""

    def g(z: mp.mpf) -> mp.mpf:
        x = mp.sqrt(z)
        return (mp.besseli(order, 2 * x) / x**order - 1) / z

    return at_zero(g, mp.mpf(1) / (1 + order)), lambda z: z / (1 + z * g(z)) if z else mp.mpf(0)


def bessel_i_far(order: int, limit: int) -> Function:
    """u = limit / x → I(x) e**-x sqrt x."""

    def g(u: mp.mpf) -> mp.mpf:
        if u * 2000 < limit:
            total = term = mp.mpf(1)
            for k in range(1, 25):
                term = -term * (4 * order**2 - (2 * k - 1) ** 2) * u / limit / (8 * k)
                total += term
            return total / mp.sqrt(2 * mp.pi)
        x = limit / u
        return mp.exp(-x) * mp.besseli(order, x) * mp.sqrt(x)

    return g


def bessel_j(order: int) -> Function:
    """J(x) / x**order without its first two zeros, of t = x²/32 - 1."""
    zeros = [mp.besseljzero(order, k) for k in (1, 2)]

    def g(t: mp.mpf) -> mp.mpf:
        z = 32 * (1 + t)
        x = mp.sqrt(z)
        value = mp.besselj(order, x) / x**order if x else mp.mpf(1) / (1 + order)
        return value / ((z - zeros[0] ** 2) * (z - zeros[1] ** 2))

    return g


def bessel_y(order: int) -> Function:
    """What the logarithm and the pole leave of Y(x) / x**order, of t = x²/32 - 1."""

    def g(t: mp.mpf) -> mp.mpf:
        x = mp.sqrt(32 * (1 + t))
        if x < mp.mpf(10) ** -12:
            return 2 / mp.pi * (mp.euler - mp.log(2)) if order == 0 else (2 * mp.euler - 1 - 2 * mp.log(2)) / 2 / mp.pi
        pole = order * 2 / mp.pi / x
        return (mp.bessely(order, x) - 2 / mp.pi * mp.log(x) * mp.besselj(order, x) + pole) / x**order

    return g


def bessel_wave(order: int, part: int) -> Function:
    """P (part 0) or x Q (part 1) of u = (8/x)²: Hankel's expansion, summed or from J and Y."""

    def g(u: mp.mpf) -> mp.mpf:
        x = 8 / mp.sqrt(max(u, mp.mpf(10) ** -40))
        if x > 100:
            total, term = mp.mpf(0), mp.mpf(1)
            for k in range(60):
                if k % 2 == part:
                    total += term * (-1) ** (k // 2)
                term = term * (4 * order**2 - (2 * k + 1) ** 2) / ((k + 1) * 8 * x)
            return total * x**part
        chi = x - (2 * order + 1) * mp.pi / 4
        j, y = mp.besselj(order, x), mp.bessely(order, x)
        root = mp.sqrt(mp.pi * x / 2)
        return (
            root * (j * mp.cos(chi) + y * mp.sin(chi)) if part == 0 else root * (y * mp.cos(chi) - j * mp.sin(chi)) * x
        )

    return g


ROWS = {
    "EXP_F32": Row(*EXP_SHORT, -HALF_LN2, HALF_LN2, 5, 32),
    "EXP_MID": Row(*EXP, -HALF_LN2, HALF_LN2, 7, 64),
    "EXP_F64": Row(*EXP, -HALF_LN2, HALF_LN2, 11, 64),
    "EXP2_F32": Row(*EXP2, -0.5, 0.5, 6, 32),
    "EXP2_MID": Row(*EXP2, -0.5, 0.5, 8, 64),
    "EXP2_F64": Row(*EXP2, -0.5, 0.5, 12, 64),
    "LOG_F32": Row(*LOG, -THIRD, THIRD, 9, 32),
    "LOG_MID": Row(*LOG_S, 0, mp.mpf("0.0401"), 5, 64),
    "LOG_F64": Row(*LOG_S, 0, mp.mpf("0.0401"), 9, 64),
    "SINE_F32": Row(*SINE, 0, 4 * QUARTER_PI2, 4, 32),
    "SIN_F32": Row(*SIN, 0, QUARTER_PI2, 3, 32),
    "SIN_MID": Row(*SIN, 0, QUARTER_PI2, 4, 64),
    "SIN_F64": Row(*SIN, 0, QUARTER_PI2, 7, 64),
    "COS_F32": Row(*COS, 0, QUARTER_PI2, 3, 32),
    "COS_MID": Row(*COS, 0, QUARTER_PI2, 4, 64),
    "COS_F64": Row(*COS, 0, QUARTER_PI2, 7, 64),
    "SINH_MID": Row(*SINH, 0, HALF_LN2**2, 3, 64),
    "SINH_F64": Row(*SINH, 0, HALF_LN2**2, 6, 64),
    "COSH_MID": Row(*COSH, 0, HALF_LN2**2, 4, 64),
    "COSH_F64": Row(*COSH, 0, HALF_LN2**2, 6, 64),
    "TAN_F32": Row(*TAN, 0, QUARTER_PI2, 7, 32),
    "TAN_F64": Row(*TAN, 0, QUARTER_PI2, 15, 64),
    "ASIN_F32": Row(*ASIN, 0, mp.mpf("0.3165"), 6, 32),
    "ASIN_F64": Row(*ASIN, 0, mp.mpf("0.3165"), 15, 64),
    "ATAN_F32": Row(*ATAN, 0, 1, 9, 32),
    "ATAN_F64": Row(*ATAN, 0, mp.tan(mp.pi / 8) ** 2 * mp.mpf("1.001"), 11, 64),
    "TANH_F32": Row(*TANH, 0, 1, 7, 32),
    "ERF_F32": Row(*ERF, 0, mp.mpf("0.36"), 5, 32),
    "ERF_F64": Row(*ERF, 0, 1, 15, 64),
    "ERF_MID": Row(*ERF, 0, 1, 9, 64),
    # up to 10.6 and 28.4, where erfc leaves the range of its type
    "ERFCX_MID": Row(*ERFCX, -1, mp.mpf("8.6") / mp.mpf("12.6"), 12, 64),
    "ERFCX_F64": Row(*ERFCX, -1, mp.mpf("26.3") / mp.mpf("30.3"), 26, 64),
    "INVERSE_CUBE_ROOT": Row(lambda m: 1 / mp.cbrt(m), mp.cbrt, mp.mpf(2) / 3, mp.mpf(16) / 3, 7, 64),
    # erfinv(x)/x of w - 5/2 with w = -log(1-x²); of s - 3 with s = sqrt(w); divided by s, of 1/s
    "ERFINV_NEAR": Row(lambda t: erfinv_of_log(t + 2.5), one, -2.5, 2.5, 13, 64),
    "ERFINV_MIDDLE": Row(lambda t: erfinv_of_log((t + 3) ** 2), lambda t: 1 / (t + 3), mp.sqrt(5) - 3, 1.5, 13, 64),
    "ERFINV_FAR": Row(lambda u: erfinv_of_log(1 / u**2) * u, one, 1 / mp.mpf("27.5"), 1 / mp.mpf("4.4"), 12, 64),
    "LOG_GAMMA_F64": Row(*_relative(log_gamma_middle), -0.5, 1, 22, 64),
    "GAMMA_F64": Row(lambda v: mp.gamma(2 + v), one, -0.5, 1, 24, 64),
    "STIRLING_F64": Row(stirling, one, 0, mp.mpf(1) / 64, 8, 64),
    "I0_MID": Row(*bessel_i(0), 0, 16, 11, 64),
    "I0_F64": Row(*bessel_i(0), 0, 16, 16, 64),
    "I1_MID": Row(*bessel_i(1), 0, 16, 11, 64),
    "I1_F64": Row(*bessel_i(1), 0, 16, 16, 64),
    "I0_FAR_MID": Row(bessel_i_far(0, 8), one, 0, 1, 8, 64),
    "I0_FAR_F64": Row(bessel_i_far(0, 8), one, 0, 1, 24, 64),
    "I1_FAR_MID": Row(bessel_i_far(1, 8), one, 0, 1, 8, 64),
    "I1_FAR_F64": Row(bessel_i_far(1, 8), one, 0, 1, 24, 64),
    "J0": Row(bessel_j(0), lambda t: mp.mpf(1000), -1, 1, 15, 64),
    "J1": Row(bessel_j(1), lambda t: mp.mpf(2000), -1, 1, 15, 64),
    "Y0": Row(bessel_y(0), one, -1, 1, 17, 64),
    "Y1": Row(bessel_y(1), one, -1, 1, 17, 64),
    "P0": Row(bessel_wave(0, 0), one, 0, 1, 12, 64),
    "Q0": Row(bessel_wave(0, 1), one, 0, 1, 12, 64),
    "P1": Row(bessel_wave(1, 0), one, 0, 1, 12, 64),
    "Q1": Row(bessel_wave(1, 1), one, 0, 1, 12, 64),
    # log erfc, for 1 - e**P
    "LOG_ERFC_F32": Row(
        lambda t: mp.log(mp.erfc(t)), lambda t: mp.erfc(t) / mp.erf(t), mp.mpf("0.59"), mp.mpf("3.95"), 8, 32
    ),
}


def main(names: list[str]) -> None:
    """Print rows, or without names write coefficients.py."""
    lines = ['"""Polynomial coefficients, lowest degree first. Written by benchmarks/minimax.py."""', ""]
    for name in names or ROWS:
        coefficients, error = fit(ROWS[name])
        power = f"2**{float(mp.log(error, 2)):.1f}"
        block = [f"# largest error {power}", f"{name} = (", *[f"    {c!r}," for c in coefficients], ")"]
        print("\n".join(block) if names else f"{name} {power}")
        lines += block
    if not names:
        path = Path(__file__).resolve().parent.parent / "lowering" / "vecmath" / "coefficients.py"
        path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
