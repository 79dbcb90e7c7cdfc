"""Taking over models of other packages."""

from dncx.interop import deepmind as deepmind
