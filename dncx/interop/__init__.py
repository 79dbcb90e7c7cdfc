"""Models of other packages as cells of dncx."""

from dncx.interop import deepmind as deepmind
