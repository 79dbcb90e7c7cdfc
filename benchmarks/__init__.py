"""Benchmarks: what dncx costs, in time and memory, beside a plain DNC in PyTorch.

`python -m benchmarks` runs all of them; `python -m benchmarks --help` tells which there are.
"""
