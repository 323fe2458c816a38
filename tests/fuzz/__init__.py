"""Random Triton programs, run by us and by Triton's own interpreter: `python -m tests.fuzz --count 2000`.

generate.py writes programs, execute.py runs one in this process, run.py compares two processes and shrinks. graphs.py
has random PyTorch functions, which are compiled whole.
"""
