"""Triton's backend plug-in (entry point group triton.backends, name "cpu"): compiler, driver, libdevice."""

# Triton loads compiler.py and driver.py while it is imported itself. Whoever imports them first must start
# there too, or they would find each other half loaded.
import triton  # noqa: F401
