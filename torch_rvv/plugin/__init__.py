"""Triton's backend plug-in (entry point group triton.backends, name "cpu"): compiler, driver, libdevice."""
