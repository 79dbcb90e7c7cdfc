"""Benchmarks: the time and memory that dncx needs, compared with a plain DNC in PyTorch.

`python -m benchmarks` runs all of them; `python -m benchmarks --help` lists them.
"""
