"""The command line: `branchwise`. One module a group of commands; heavy imports stay inside the commands.

app.py       the commands put together, and what becomes of errors
terminal.py  where a command speaks: results on stdout, everything else on stderr
options.py   options that several commands share
build.py  ask.py  tree.py  keep.py  serve.py  evaluate.py   the commands themselves
"""

from branchwise.agent.surfaces.cli.app import main

__all__ = ["main"]
