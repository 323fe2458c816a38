"""Derives the polynomial coefficients of lowering/vecmath: `python -m torch_rvv.benchmarks.minimax`.

Each row is a function, an interval and a number of coefficients; mpmath fits it at Chebyshev nodes, which
is within a small factor of minimax. Coefficients are printed lowest degree first.
"""

from __future__ import annotations

from pathlib import Path

import mpmath as mp

mp.mp.dps = 60


def _sqrt_argument(f, odd: bool):
    """g(z) with f(x) = g(x²), or f(x) = x*g(x²)."""

    def g(z):
        x = mp.sqrt(z)
        return f(x) / x if odd else f(x)

    return g


def _near(g, at_zero):
    """g with its limit at 0, where the formula is 0/0."""
    return lambda z: mp.mpf(at_zero) if abs(z) < mp.mpf(10) ** -25 else g(z)


def _log_rest(z):
    """R with log(1+f) = f - f²/2 + s(f²/2 + R(s²)), s = f/(2+f): R = log((1+s)/(1-s))/s - 2."""
    s = mp.sqrt(z)
    return (mp.log((1 + s) / (1 - s)) / s - 2) / z


def _erfcx_scaled(k):
    """erfcx(x)*(1+2x) as a function of q = (x-k)/(x+k)."""

    def g(q):
        if q >= 1:
            return 2 / mp.sqrt(mp.pi)
        x = k * (1 + q) / (1 - q)
        if x > 25:
            total, term, n = mp.mpf(1), mp.mpf(1), 0
            while n < 40:
                n += 1
                new = -term * (2 * n - 1) / (2 * x * x)
                if abs(new) >= abs(term):
                    break
                term = new
                total += term
            return total / (x * mp.sqrt(mp.pi)) * (1 + 2 * x)
        return mp.exp(x * x) * mp.erfc(x) * (1 + 2 * x)

    return g


_HALF_LN2 = mp.log(2) / 2 * mp.mpf("1.001")
_QUARTER_PI2 = (mp.pi / 4) ** 2 * mp.mpf("1.001")
_LOG_Z = mp.mpf("0.0297")  # (sqrt2-1)²/(sqrt2+1)² rounded up

ROWS = {
    # exp(r) = 1 + r + r² P(r)
    "EXP_F32": (_near(lambda r: (mp.exp(r) - 1 - r) / r**2, 0.5), [-_HALF_LN2, _HALF_LN2], 5),
    "EXP_F64": (_near(lambda r: (mp.exp(r) - 1 - r) / r**2, 0.5), [-_HALF_LN2, _HALF_LN2], 11),
    "LOG_F32": (_near(_log_rest, mp.mpf(2) / 3), [0, _LOG_Z], 4),
    "LOG_F64": (_near(_log_rest, mp.mpf(2) / 3), [0, _LOG_Z], 8),
    # sin x = x + x³ P(x²); cos x = 1 - x²/2 + x⁴ P(x²)
    "SIN_F32": (_near(lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, -mp.mpf(1) / 6), [0, _QUARTER_PI2], 4),
    "SIN_F64": (_near(lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, -mp.mpf(1) / 6), [0, _QUARTER_PI2], 8),
    "COS_F32": (_near(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, mp.mpf(1) / 24), [0, _QUARTER_PI2], 4),
    "COS_F64": (_near(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, mp.mpf(1) / 24), [0, _QUARTER_PI2], 8),
    # erf x = x P(x²) up to 1
    "ERF_F32": (_near(_sqrt_argument(mp.erf, True), 2 / mp.sqrt(mp.pi)), [0, 1], 8),
    "ERF_F64": (_near(_sqrt_argument(mp.erf, True), 2 / mp.sqrt(mp.pi)), [0, 1], 15),
    "ERFCX_F32": (_erfcx_scaled(2), [-1, 1], 11),
    "ERFCX_F64": (_erfcx_scaled(4), [-1, 1], 27),
    # atan x = x P(x²) up to tan(pi/8)
    "ATAN_F64": (_near(_sqrt_argument(mp.atan, True), 1), [0, mp.tan(mp.pi / 8) ** 2 * mp.mpf("1.001")], 14),
    # asin x = x + x³ P(x²) up to 1/2
    "ASIN_F64": (
        _near(lambda z: (mp.asin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mp.mpf(1) / 6),
        [0, mp.mpf("0.25")],
        15,
    ),
    # cbrt on [1, 8), the start of Newton's iteration
    "CBRT_F64": (mp.cbrt, [1, 8], 6),
}


def main() -> None:
    """Write coefficients.py."""
    lines = ['"""Polynomial coefficients, lowest degree first. Written by benchmarks/minimax.py."""', ""]
    for name, (function, interval, count) in ROWS.items():
        coefficients, error = mp.chebyfit(function, interval, count, error=True)
        text = ", ".join(repr(float(c)) for c in reversed(coefficients))
        lines.append(f"# largest error of the polynomial: {mp.nstr(error, 3)}")
        lines.append(f"{name} = ({text},)")
    path = Path(__file__).resolve().parent.parent / "lowering" / "vecmath" / "coefficients.py"
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
