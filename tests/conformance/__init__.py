"""Every feature of Triton's language by dtype and VLEN: right, refused with a message, never wrong, never a crash.

`python -m tests.conformance` runs all; a family of features is a file, a feature a row of a table or a function.
`--table operators`: the same of PyTorch's operators, by the samples of its own database (operators.py).
"""
