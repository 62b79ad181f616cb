"""What `release learn` finds out about the installer of a release that it does not know.

Its words against those of its predecessor, and the script itself, rehearsed here with the response
file and the encryption step that a build would put in.  Nothing is written but into a folder that
goes away again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from obsdimg.cli.rehearsing import LIMIT, why_not
from obsdimg.config.load import parse
from obsdimg.core.progress import Progress
from obsdimg.core.scratch import run_folder, runtime_folder
from obsdimg.core.secret import Secret
from obsdimg.ffs import FileSystem
from obsdimg.image.inputs import BuildInputs
from obsdimg.image.medium import Medium, read_medium
from obsdimg.image.plan import plan_build
from obsdimg.image.ramdisk import RESPONSE, check_ramdisk, edit_ramdisk
from obsdimg.image.write import iso_files, needed_disk, ramdisk_files, site_files
from obsdimg.iso import Iso
from obsdimg.project.folder import Project
from obsdimg.rehearsal import (
    FilesCd,
    IsoCd,
    LayeredCd,
    MachineChanges,
    Operator,
    RamdiskNode,
    Rehearsal,
    RehearsalLimits,
    RehearsalMachine,
    likely_machine,
    rehearse_tree,
    tree_of,
)
from obsdimg.rehearsal.machine import PASSPHRASE
from obsdimg.rehearsal.ramdisk import read_ramdisk
from obsdimg.releases.release import Release
from obsdimg.response.known import KnownQuestions
from obsdimg.response.questions import load
from obsdimg.response.script import ScriptQuestion, asked_by, changes
from obsdimg.site.files import site_set
from obsdimg.site.sealing import PUBLIC_ROUNDS

_SCRIPTS = ("/install.sub", "/install.md")
_COMMON = """\
[host]
timezone = "UTC"
[access.admin]
keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f sample"]
[tunnel]
endpoint = "vpn.example.net"
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
[packages]
carry = false
"""
_ENCRYPTED = (
    _COMMON
    + """\
[disk]
random_fill = false
rounds = 16
"""
)
_PLAIN = (
    _COMMON.replace('timezone = "UTC"', 'timezone = "UTC"\nconsole = "com0"')
    + """\
[disk]
encryption = "none"
[network]
ipv4 = "192.0.2.2/24"
gateway4 = "192.0.2.1"
ipv6 = "2001:db8::2/64"
gateway6 = "fe80::1"
dns = ["9.9.9.9"]
[[network.interfaces]]
name = "vio1"
ipv4 = "172.16.1.3/24"
"""
)
_SAMPLES: tuple[tuple[str, Mapping[str, MachineChanges]], ...] = (
    (
        _ENCRYPTED,
        {
            "BIOS, encrypted": MachineChanges(),
            "BIOS, encrypted, nobody answers DHCP": MachineChanges(dhcp=False),
            "UEFI, encrypted": MachineChanges(efi=True),
        },
    ),
    (
        _PLAIN,
        {
            "BIOS, not encrypted, com0, two cards, fixed addresses": MachineChanges(),
            "UEFI, not encrypted, com0, two cards, fixed addresses": MachineChanges(efi=True),
        },
    ),
)
"""Machines and settings that between them meet the questions of an ordinary installation."""


@dataclass(frozen=True)
class InstallerTrial:
    """What was found: the questions that are new in these words, those that are gone, and one
    rehearsal a machine; `not_rehearsed` says why there are none."""

    new: tuple[ScriptQuestion, ...]
    gone: tuple[ScriptQuestion, ...]
    rehearsals: tuple[tuple[str, Rehearsal], ...]
    not_rehearsed: str | None = None

    @property
    def failed(self) -> tuple[str, ...]:
        """The machines on which the installer did not go through as it should."""
        return tuple(machine for machine, result in self.rehearsals if not result.passed)

    def lines(self) -> list[str]:
        """The report, a line a finding."""
        found = [f"  new     {_shown(question)}" for question in self.new]
        found += [f"  gone    {_shown(question)}" for question in self.gone]
        for machine, result in self.rehearsals:
            if result.passed:
                found.append(f"  ok      {machine}: {len(result.questions)} questions, installed")
                continue
            found.append(f"  FAILED  {machine}: {result.message}")
            unknown = dict.fromkeys(q.text for q in result.questions if not q.known)
            found += [f"          not known before: {text}" for text in unknown]
        return found

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "new_questions": [asdict(question) for question in self.new],
            "gone_questions": [asdict(question) for question in self.gone],
            "not_rehearsed": self.not_rehearsed,
            "rehearsals": [
                {
                    "machine": machine,
                    "verdict": result.verdict.value,
                    "message": result.message,
                    "unknown_questions": [q.text for q in result.questions if not q.known],
                }
                for machine, result in self.rehearsals
            ],
        }


def _shown(question: ScriptQuestion) -> str:
    default = f"default {question.default}" if question.default else "no default"
    return f"{question.text}  ({question.function}, line {question.line}, {default})"


def try_installer(iso: Path, release: Release, before: Path, progress: Progress) -> InstallerTrial:
    """Try the installer on the (verified) `iso`, which `release` describes; `before` is the ISO of
    the release before it.

    Raises MediumError, RamdiskError and what reading an ISO raises, where it is no installer that
    a build could use.
    """
    with progress.step("Comparing the installer's questions with its predecessor's"):
        with Iso.open(before) as opened:
            old = _script(read_ramdisk(opened)[1])
        with Iso.open(iso) as opened:
            medium = read_medium(opened, release, release.port("amd64"), hash_sets=False)
        check_ramdisk(FileSystem(medium.kernel.ramdisk), release.digits)
        new, gone = changes(old, _script(tree_of(FileSystem(medium.kernel.ramdisk))))
    reason = why_not()
    if reason is not None:
        return InstallerTrial(new, gone, (), reason)
    return InstallerTrial(new, gone, tuple(_rehearsals(iso, release, medium, progress)))


def _script(tree: Mapping[str, RamdiskNode]) -> list[ScriptQuestion]:
    texts = [tree[path].data.decode("utf-8", "replace") for path in _SCRIPTS if path in tree]
    return [question for text in texts for question in asked_by(text)]


def _rehearsals(
    iso: Path, release: Release, medium: Medium, progress: Progress
) -> Iterator[tuple[str, Rehearsal]]:
    known = KnownQuestions(load(release.question_table))
    operator = Operator.default()
    with Iso.open(iso) as opened:
        for settings, machines in _SAMPLES:
            tree, upper = _prepared(release, medium, settings)
            response = tree[RESPONSE].data
            for name, change in machines.items():
                machine = change.applied(likely_machine(response, RehearsalMachine()))
                machine = replace(machine, version=release.version, arch="amd64")
                with progress.step(f"Rehearsing its installer: {name}"):
                    result = rehearse_tree(
                        *(tree, LayeredCd(FilesCd(upper), IsoCd(opened)), machine, operator),
                        known=known,
                        limits=RehearsalLimits(LIMIT),
                    )
                yield name, result


def _prepared(
    release: Release, medium: Medium, settings: str
) -> tuple[dict[str, RamdiskNode], dict[str, bytes]]:
    """The ramdisk and the changed files of the CD, as `obsdimg build` would make them."""
    passphrase = Secret(PASSPHRASE)
    with run_folder(runtime_folder()) as folder:
        config = parse(f'{settings}[release]\nversion = "{release.version}"\n'.encode())
        keys = Project(folder / "obsdimg.toml", config).keys()
    inputs = BuildInputs(config, "", release, release.port("amd64"), keys)
    plan = replace(plan_build(inputs), sealing_rounds=PUBLIC_ROUNDS)
    plan = replace(plan, hook=replace(plan.hook, need_mb=needed_disk(plan, medium)))
    site = site_set(site_files(plan, passphrase, medium.epoch), medium.epoch)
    files = ramdisk_files(plan, passphrase)
    image = edit_ramdisk(medium.kernel.ramdisk, release.digits, files, medium.epoch)
    changed = iso_files(plan, medium, site, b"")
    return tree_of(FileSystem(image)), {e.path: e.data for e in changed if e.data}
