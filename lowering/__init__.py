"""TTIR text to the bytes of a riscv64 .so: pure functions, with no torch, no device and no files.

`pipeline.py` lists the stages in order; every other file is one stage or one family of rules.
"""
