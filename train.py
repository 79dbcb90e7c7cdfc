"""Trains a DNC on repeat copy, with the flags of google-deepmind/dnc's train.py.

python train.py --memory_size=64 --num_bits=8 --max_length=3
ipython train.py -- --memory_size=64 --num_bits=8 --max_length=3
"""

import sys

from dncx.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main())
