"""The hook's settings file and the files it adds to the ramdisk: quoted, complete, refused."""

from __future__ import annotations

import re
import subprocess

import pytest

from obsdimg.core.secret import Secret
from obsdimg.response.hook import (
    After,
    HookError,
    HookSettings,
    Mode,
    Table,
    conf,
    describe,
    hooked,
    parse_conf,
    ramdisk_files,
    warnings,
)
from support.hook_bench import shell


def test_the_settings_file_says_what_the_settings_say() -> None:
    settings = HookSettings(
        mode=Mode.KEYDISK,
        disk="sd0",
        rounds=64,
        random_fill=False,
        overwrite=True,
        keydisk="sd1a",
        table=Table.MBR,
        after=After.HALT,
    )
    assert conf(settings).decode().splitlines() == [
        "obsdimg_mode='keydisk'",
        "obsdimg_disk='sd0'",
        "obsdimg_rounds='64'",
        "obsdimg_fill='no'",
        "obsdimg_overwrite='yes'",
        "obsdimg_keydisk='sd1a'",
        "obsdimg_table='mbr'",
        "obsdimg_fdisk_gpt='-gy -b 532480'",
        "obsdimg_after='halt'",
        "obsdimg_loader=''",
        "obsdimg_need='0'",
        "obsdimg_min='8'",
        "obsdimg_max='255'",
        "obsdimg_conf_complete='yes'",
    ]


def test_a_shell_reads_the_defaults() -> None:
    script = conf(HookSettings()).decode() + 'print "$obsdimg_mode $obsdimg_disk $obsdimg_rounds"'
    done = subprocess.run([shell(), "-c", script], capture_output=True, timeout=20, check=True)
    assert done.stdout == b"passphrase auto auto\n"


@pytest.mark.parametrize(
    "settings",
    [
        HookSettings(disk="sd0'; reboot; '"),
        HookSettings(disk="sd0\n"),
        HookSettings(disk="sd"),
        HookSettings(disk="cd0"),
        HookSettings(disk="sd0a"),
        HookSettings(disk=""),
        HookSettings(rounds=15),
        HookSettings(rounds=1 << 31),
        HookSettings(keydisk="sd1a"),
        HookSettings(mode=Mode.KEYDISK),
        HookSettings(mode=Mode.KEYDISK, keydisk="sd1"),
        HookSettings(mode=Mode.KEYDISK, keydisk="sd1c"),
        HookSettings(mode=Mode.KEYDISK, keydisk="sd1a;"),
        HookSettings(mode=Mode.KEYDISK, disk="sd1", keydisk="sd1a"),
    ],
)
def test_settings_that_the_tools_would_not_take_are_refused(settings: HookSettings) -> None:
    with pytest.raises(HookError):
        conf(settings)


def test_the_embedded_passphrase_is_a_private_file_and_only_in_that_mode() -> None:
    secret = Secret("correct horse battery")
    files = {f.path: f for f in ramdisk_files(HookSettings(mode=Mode.EMBEDDED), secret)}
    key = files["/obsdimg.key"]
    assert (key.mode, key.data, key.secret) == (0o600, b"correct horse battery\n", True)
    assert b"horse" not in files["/obsdimg.conf"].data
    for settings, given in ((HookSettings(), secret), (HookSettings(mode=Mode.EMBEDDED), None)):
        with pytest.raises(HookError):
            ramdisk_files(settings, given)
    assert [f.path for f in ramdisk_files(HookSettings())] == ["/obsdimg.sh", "/obsdimg.conf"]


@pytest.mark.parametrize("before", [b"", b"MDXDM=y\n", b"MDXDM=y"])
def test_the_line_is_appended_once(before: bytes) -> None:
    after = hooked(before)
    assert after.endswith(b"\n. /obsdimg.sh\n") or after == b". /obsdimg.sh\n"
    assert hooked(after) == after


def test_what_is_in_an_iso_can_be_read_back() -> None:
    settings = HookSettings(rounds=100, after=After.HALT)
    found = parse_conf(conf(settings))
    assert found["rounds"] == "100"
    assert found["after"] == "halt"
    assert describe(settings)["passphrase_in_iso"] is False
    assert describe(HookSettings(mode=Mode.EMBEDDED))["passphrase_in_iso"] is True


def test_slow_rounds_open_disks_and_endless_erasing_are_warned_about() -> None:
    assert warnings(HookSettings(rounds=999)) == []
    assert "27 s" in warnings(HookSettings(rounds=8192))[0]
    assert "whoever has the ISO" in warnings(HookSettings(mode=Mode.EMBEDDED))[0]
    assert "not encrypted" in warnings(HookSettings(mode=Mode.NONE))[0]
    endless = HookSettings(mode=Mode.NONE, overwrite=True)
    assert any("erased at every start" in text for text in warnings(endless))
    safe = HookSettings(mode=Mode.NONE, overwrite=True, after=After.HALT)
    assert not any("erased at every start" in text for text in warnings(safe))


ABSENT = re.compile(
    r"(?:^|[|&;({]|\$\(|\bif|\bwhile|\bdo|\bthen)\s*"
    r"(awk|cut|tr|head|tail|wc|sort|printf|test|xargs|find|openssl|vi|base64|md5|id|env|expr|seq"
    r"|basename|dirname|od|hexdump|cmp|diff|uniq|true|false|which|kill|mktemp|touch|stat)\b(?!=)",
    re.MULTILINE,
)
"""Programs that the ramdisk does not have, in the place of a command."""


def test_the_script_calls_nothing_that_the_ramdisk_lacks() -> None:
    script = next(f for f in ramdisk_files(HookSettings()) if f.path == "/obsdimg.sh")
    text = script.data.decode()
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert ABSENT.findall(code) == []
    assert ABSENT.findall("x=$(awk 1)\nif test -f x; then\n") == ["awk", "test"]
