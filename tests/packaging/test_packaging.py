"""The Homebrew formula and the Containerfile: judged by Ruby and hadolint, and against uv.lock."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
CONTAINERFILE = TOP / "packaging/container/Containerfile"
URL = "https://example.org/obsdimg-0.1.0.tar.gz"

# Homebrew's words, as far as the formula uses them; anything else is an error of Ruby.
HOMEBREW = """
require "json"
$said = Hash.new { |h, k| h[k] = [] }
module Language; module Python; module Virtualenv; end; end; end
class Resource
  def initialize(name) = @about = { "name" => name }
  def url(text) = @about["url"] = text
  def sha256(text) = @about["sha256"] = text
  attr_reader :about
end
class Formula
  %i[desc homepage url sha256 license].each { |w| define_singleton_method(w) { |t| $said[w] << t } }
  def self.depends_on(what) = $said[:depends_on] << what
  def self.on_linux = yield
  def self.resource(name, &block)
    made = Resource.new(name)
    made.instance_eval(&block)
    $said[:resource] << made.about
  end
  def self.test = $said[:test] << true
end
load ARGV[0]
raise "no install" unless Obsdimg.method_defined?(:install)
puts JSON.generate($said)
"""


@pytest.fixture
def formula(tmp_path: Path) -> Path:
    sdist = tmp_path / "obsdimg-0.1.0.tar.gz"
    sdist.write_bytes(b"an sdist")
    make = [sys.executable, str(TOP / "packaging/homebrew/make.py"), str(sdist), URL]
    made = subprocess.run(
        [*make, "--homepage", "https://example.org/"], check=True, capture_output=True, timeout=60
    )
    path = tmp_path / "obsdimg.rb"
    path.write_bytes(made.stdout)
    return path


@pytest.mark.skipif(shutil.which("ruby") is None, reason="ruby is not installed")
def test_ruby_takes_the_formula_and_it_names_every_library_with_its_hash(
    formula: Path, tmp_path: Path
) -> None:
    checked = subprocess.run(
        ["ruby", "-wc", formula], check=True, capture_output=True, text=True, timeout=60
    )
    assert checked.stdout == "Syntax OK\n"
    assert checked.stderr == ""
    (tmp_path / "homebrew.rb").write_text(HOMEBREW)
    ran = subprocess.run(
        ["ruby", tmp_path / "homebrew.rb", formula], check=True, capture_output=True, timeout=60
    )
    said = json.loads(ran.stdout)
    assert said["url"] == [URL]
    assert said["sha256"] == [hashlib.sha256(b"an sdist").hexdigest()]
    assert said["test"] == [True]
    # Homebrew's own rule for a description.
    assert len(said["desc"][0]) <= 80
    locked = {
        package["name"]: package
        for package in tomllib.loads((TOP / "uv.lock").read_text())["package"]
    }
    for resource in said["resource"]:
        sdist = locked[resource["name"]]["sdist"]
        assert (resource["url"], f"sha256:{resource['sha256']}") == (sdist["url"], sdist["hash"])
    there = {one["name"] for one in said["resource"]} | {
        one for one in said["depends_on"] if isinstance(one, str)
    }
    direct = {one["name"] for one in locked["obsdimg"]["dependencies"]}
    assert direct <= there
    assert "pytest" not in there


def test_hadolint_has_nothing_to_say_of_the_containerfile() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    words = [hadolint, "-c", CONTAINERFILE.with_name("hadolint.yaml"), "-"]
    for text, good in (
        (CONTAINERFILE.read_text(), True),
        (CONTAINERFILE.read_text().replace("-slim-bookworm", "").replace(":3.13", ""), False),
    ):
        done = subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode == 0) == good, done.stdout


def test_the_containerfile_copies_what_a_wheel_needs_and_lets_nothing_else_in(
    tmp_path: Path,
) -> None:
    ignored = (TOP / ".containerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = set()
    for line in CONTAINERFILE.read_text().splitlines():
        if (found := re.match(r"COPY (?!--from)(.*) \S+$", line)) is not None:
            copied |= set(found[1].split())
    assert copied == let_in
    assert all((TOP / name).exists() for name in copied)
    for name in copied:
        source, there = TOP / name, tmp_path / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, there, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, there)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "made"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    assert len(list(tmp_path.glob("made/*.whl"))) == 1
