"""The dncx command, and command lines for custom tasks."""

from dncx.cli.main import leave as leave
from dncx.cli.main import task_main as task_main
from dncx.cli.main import train_main as train_main
