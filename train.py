"""Trains a DNC on repeat copy, with the flags of google-deepmind/dnc's train.py.

python train.py --memory_size=64 --num_bits=8 --max_length=3
ipython train.py -- --memory_size=64 --num_bits=8 --max_length=3
"""

import sys

try:
    from dncx.cli import leave, train_main
except ModuleNotFoundError as error:
    sys.exit(f"train.py: {error}; run `make train` to set up .venv, or .venv/bin/python train.py")

if __name__ == "__main__":
    leave(train_main())
