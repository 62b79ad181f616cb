"""The whole command: warm `obsdimg build` on a 470 MB medium, against xorriso and cp.

Warm: the medium was verified before, and is in the page cache.  The build seals, packs, edits the
ramdisk, signs, copies, and hashes the output, which xorriso and cp do not.  Beside it what the
sealing costs by itself, the start of the program, and `demo`.
`python bench/bench_build.py [--size MB] [--rounds N]`
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "builder"))

from bench_iso import Run, changes, make_source, measured, noise, table, xorriso


def main() -> None:
    options = argparse.ArgumentParser(description="time the whole command")
    options.add_argument("--size", type=int, default=470, help="megabytes of the medium")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--dir", type=Path, help="folder for some gigabytes of scratch files")
    options.add_argument("--build", nargs=4, type=Path, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.build:
        build_once(*arguments.build)
        return
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name:
        compare(Path(name), arguments.size, arguments.rounds)


def build_once(config: Path, source: Path, phrase: Path, output: Path) -> None:
    """`obsdimg build`, with a release whose base key is that of the stand-in's vendor."""
    from obsdimg.cli.main import main as command
    from obsdimg.releases import release
    from obsdimg.signify.message import SignifySecretKey

    public = SignifySecretKey.parse((source.parent / "vendor.sec").read_text()).public()
    genuine = release.load_release("6.6")
    base = genuine.keys.base.model_copy(update={"key": public.base64, "comment": public.comment})
    port = genuine.port("amd64").model_copy(update={"iso_hash": None})
    keys = genuine.keys.model_copy(update={"base": base})
    signed = genuine.model_copy(update={"keys": keys, "ports": (port,), "mirrors": ()})
    release.load_release = lambda version: signed
    words = ["build", "-q", "-c", config, "--iso", source, "--passphrase-file", phrase]
    raise SystemExit(command([str(w) for w in (*words, "--offline", "-o", output)]))


def make_signed_source(folder: Path, size: int) -> Path:
    """The medium with a signed list beside it, and the vendor's key."""
    from obsdimg.core.hashing import sha256_file
    from obsdimg.signify.message import SignifySecretKey
    from obsdimg.signify.signing import sign_list

    source = folder / "install66.iso"
    make_source(str(source), str(size))
    vendor = SignifySecretKey.generate("bench vendor")
    (folder / "vendor.sec").write_text(vendor.text())
    listed = {source.name: sha256_file(source)[0]}
    (folder / "SHA256.sig").write_bytes(sign_list(listed, vendor, "6.6").sha256_sig)
    return source


def bcrypt_alone() -> str:
    """A program that does what a build's sealing must."""
    from obsdimg.site.sealing import ROUNDS

    call = f"bcrypt.kdf(bytes(range(1, 29)), bytes(16), 48, {ROUNDS}, ignore_few_rounds=True)"
    return f"import bcrypt; {call}"


def compare(folder: Path, size: int, rounds: int) -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled
    os.environ["OBSDIMG_CACHE"] = str(folder / "cache")
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1] / "builder")
    (folder / "upstream").mkdir()  # its SHA256.sig is not the one that xorriso puts in
    source = make_signed_source(folder / "upstream", size * 1_000_000)
    for path, content in changes(folder).items():
        name = path.rpartition("/")[2]
        (folder / name).write_bytes(content if isinstance(content, bytes) else noise(name))
    tool = [sys.executable, "-m", "obsdimg"]
    project = folder / "project"
    subprocess.run([*tool, "init", "-q", project], check=True, stdout=subprocess.DEVNULL)
    (project / "obsdimg.toml").write_text("[packages]\ncarry = false\n")
    phrase = folder / "phrase"
    phrase.write_text("correct horse battery staple\n")
    phrase.chmod(0o600)
    build: list[str | Path] = [sys.executable, __file__, "--build", project / "obsdimg.toml"]
    build += [source, phrase, folder / "out"]
    rows: dict[str, list[str | Path]] = {
        "obsdimg build, warm": build,
        "xorriso -boot_image any replay -map": xorriso(source, folder),
        "cp": ["cp", source, folder / "out"],
        "the sealing in it: bcrypt alone": [sys.executable, "-c", bcrypt_alone()],
        "obsdimg --version": [*tool, "--version"],
        "obsdimg demo": [*tool, "demo", "-q", folder / "demo"],
    }
    runs: dict[str, list[Run]] = {title: [] for title in rows if shutil.which(str(rows[title][0]))}
    for turn in range(rounds + 1):  # the first turn warms up
        for title in runs:
            for left in ("out", "demo"):
                path = folder / left
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            (folder / "out").touch() if title.endswith(("--version", "demo", "alone")) else None
            os.sync()
            run = measured(rows[title], folder / "out")
            if turn:
                runs[title].append(run)
    print(table(source.stat().st_size, runs))


if __name__ == "__main__":
    main()
