"""The Homebrew formula of a release, from its sdist and uv.lock.

    uv build --sdist
    python packaging/homebrew/make.py dist/obsdimg-0.1.0.tar.gz URL --homepage URL >obsdimg.rb

The first URL is where people download that sdist from.

Put obsdimg.rb into Formula/ of your tap.  Every library is a resource with the hash that uv.lock
has; those that Homebrew builds itself, because they hold machine code, are its own formulae.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

TOP = Path(__file__).resolve().parents[2]
OWN_FORMULAE = {"certifi", "cffi", "cryptography", "pillow", "pydantic"}
"""Python libraries that are formulae in homebrew-core; what they need comes with them."""


def runtime(lock: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name to entry of uv.lock of every library that obsdimg needs to run on macOS or Linux."""
    packages = {package["name"]: package for package in lock["package"]}
    found: dict[str, dict[str, Any]] = {}
    waiting = list(_needs(packages["obsdimg"]))
    while waiting:
        name = waiting.pop()
        if name not in found and name not in OWN_FORMULAE:
            found[name] = packages[name]
            waiting += _needs(packages[name])
    return dict(sorted(found.items()))


def _needs(package: dict[str, Any]) -> Iterator[str]:
    for dependency in package.get("dependencies", []):
        if "win32" not in dependency.get("marker", ""):
            yield dependency["name"]


def formula(sdist: bytes, url: str, homepage: str) -> str:
    """The formula's text."""
    libraries = runtime(tomllib.loads((TOP / "uv.lock").read_text()))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  (Ruby, not HTML)
    )
    return environment.get_template("obsdimg.rb.j2").render(
        homepage=homepage,
        url=url,
        sha256=hashlib.sha256(sdist).hexdigest(),
        formulae=sorted({*OWN_FORMULAE, "python@3.13"}),
        resources=[
            {
                "name": name,
                "url": package["sdist"]["url"],
                "sha256": package["sdist"]["hash"].removeprefix("sha256:"),
            }
            for name, package in libraries.items()
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sdist", type=Path)
    parser.add_argument("url", help="where people download it from")
    parser.add_argument("--homepage", required=True)
    options = parser.parse_args()
    sys.stdout.write(formula(options.sdist.read_bytes(), options.url, options.homepage))


if __name__ == "__main__":
    main()
