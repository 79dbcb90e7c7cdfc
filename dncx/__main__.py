"""python -m dncx: the dncx command."""

from dncx.cli import console

if __name__ == "__main__":
    console()
