"""One module per command of `obsdimg`.

A command module has `HELP` (one line), `configure(parser)` and `run(args, ui) -> exit code`.
It imports what it needs inside `run`, so that `obsdimg --version` stays quick.
"""
