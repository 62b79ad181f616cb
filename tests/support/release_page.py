"""The part of docs/releases.md that says how far each release is proven, made of images/*.toml."""

from __future__ import annotations

from collections.abc import Iterable

from obsdimg.releases.release import Release

BEGIN = "<!-- from images/*.toml -->\n"
END = "<!-- end -->\n"


def proven_table(releases: Iterable[Release]) -> str:
    """A Markdown table, a row a release, in the order given.

    The columns are what was run, and whether two sources agree on the base key and on the hash of
    the amd64 ISO.
    """
    rows = ["| release | was run | base key | ISO's hash |", "|---|---|---|---|"]
    for release in releases:
        known = next((p.iso_hash for p in release.ports if p.name == "amd64"), None)
        iso = "not known" if known is None else _agree(known.checked)
        run = "<br>".join(line.replace("|", "\\|") for line in release.proven) or "nothing"
        rows.append(f"| {release.version} | {run} | {_agree(release.keys.base.checked)} | {iso} |")
    return "\n".join(rows) + "\n"


def with_table(page: str, table: str) -> str:
    """`page` with `table` between its marks.  Raises ValueError where they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN.strip()} or {END.strip()}")
    return before + BEGIN + table + END + after


def _agree(checked: bool) -> str:
    return "two sources agree" if checked else "one source"
