"""python -m dncx: the dncx command."""

from dncx.cli.main import console

if __name__ == "__main__":
    console()
