"""`python -m obsdimg` is the command `obsdimg`."""

from obsdimg.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
