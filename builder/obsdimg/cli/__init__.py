"""The command line: parses, calls one function, prints; the only room that knows argparse."""
