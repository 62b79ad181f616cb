from __future__ import annotations

import pytest

from obsdimg.console.screen import Cell, Kind, Screen
from obsdimg.console.states import Sight, hostname, other_system, recognise


def screen(text: str) -> Screen:
    rows = tuple(
        tuple(Cell(c, 0xAAAAAA, 0) for c in line.ljust(80)) for line in text.strip("\n").split("\n")
    )
    return Screen(Kind.TEXT, rows)


BANNER = """Using drive 0, partition 3.
Loading......
probing: pc0 com0 mem[639K 1022M a20=on]
disk: hd0+ sr0*
>> OpenBSD/amd64 BOOT 3.67
"""

SCREENS = [
    # Seen on a real 6.6 and 7.7 (docs/smoke.md).
    (BANNER + "Passphrase: ", Sight.PASSPHRASE),
    (BANNER + "Passphrase: \nincorrect passphrase\nPassphrase: ", Sight.REFUSED),
    ("incorrect passphrase\nPassphrase: \n" * 12 + "incorrect passphrase\nPassphrase:",
     Sight.REFUSED),
    (BANNER + "Passphrase: \naborting...\nboot>", Sight.ABORTED),
    (BANNER + "keydisk not found\nboot>", Sight.ABORTED),
    (BANNER + "Passphrase: \nboot> ", Sight.LOADER),
    # A loader that asks on com0: the screen, and the line (seen on a 7.7).
    (BANNER + "switching console to com0", Sight.ON_SERIAL_LINE),
    (BANNER + "Passphrase: \naborting...\nbooting sr0a:/bsd: Passphrase: ", Sight.PASSPHRASE),
    (BANNER + "switching console to com0\n" + BANNER + "Passphrase: ", Sight.PASSPHRASE),
    (BANNER + "Passphrase: \nbooting sr0a:/bsd: 12957000+3142672", Sight.BOOTING),
    (BANNER + "Passphrase: \nboot> \nbooting sr0a:/bsd: 12957000+3142672", Sight.BOOTING),
    ("OpenBSD 7.7 (GENERIC) #0: Thu Nov 26\ncpu0: QEMU Virtual CPU", Sight.BOOTING),
    ("vio0 at virtio0: address 52:54:00:12:34:56\npf enabled", Sight.BOOTING),
    ("root on sd1a (abc.a) swap on sd1b dump on sd1b\nWARNING: clock", Sight.BOOTING),
    ("starting local daemons: cron.\nThu Nov 26 18:34:07 UTC 2026", Sight.BOOTING),
    ("OpenBSD/amd64 (vpn.example.org) (ttyC0)\n\nlogin: ", Sight.LOGIN),
    ("panic: init died\nStopped at db_enter+0x10\nddb> ", Sight.PANIC),
    ("kernel: protection fault trap\nddb{0}> ", Sight.PANIC),
    ("Enter pathname of shell or RETURN for sh: ", Sight.SINGLE_USER),
    ("root device (default sd0a): ", Sight.ROOT_DEVICE),
    ("obsdimg: sd0 is NOT EMPTY. It holds:\nAnswer: ", Sight.GUARD),
    ("obsdimg: this medium installs OpenBSD\nNew passphrase: ", Sight.GUARD),
    ("New passphrase: \nThe same again: ", Sight.GUARD),
    ("Passphrase of the sealed secrets: ", Sight.SEALED),
    ("running rc.firsttime\nobsdimg: installing patches\nsyspatch: none", Sight.BOOTING),
    ("obsdimg: sd1 is the encrypted volume on sd0a\nnewfs: sd1a", Sight.INSTALLER),
    ("obsdimg: random data: 100 of 2048 MB", Sight.INSTALLER),
    ("(I)nstall, (U)pgrade, (A)utoinstall or (S)hell? ", Sight.INSTALLER),
    ("Installing base77.tgz  45% |****    | 100 MB", Sight.INSTALLER),
    ("obsdimg: STOPPED: sd0 was left as it is. Nothing was changed.", Sight.INSTALL_FAILED),
    ("failed; check /tmp/ai/ai.log\n(I)nstall or (S)hell?", Sight.INSTALL_FAILED),
    ("CONGRATULATIONS! Your OpenBSD install has been successfully completed!\nsyncing",
     Sight.INSTALLED),
    ("The operating system has halted.\nPlease press any key to reboot.", Sight.HALTED),
    ("Booting from Hard Disk...\nNo bootable device.", Sight.NO_SYSTEM),
    ("Mapping table\nShell> ", Sight.NO_SYSTEM),
    # The same words somewhere else are something else.
    ("Please unlock disk\nPassphrase: ", Sight.OTHER),
    ("Enter passphrase for hd0,gpt2: ", Sight.OTHER),
    (BANNER, Sight.OTHER),  # the prompt is still to come
    ("syncing disks... done\nrebooting...", Sight.OTHER),
    (BANNER + "Passphrase: is what it asked for", Sight.OTHER),
    ("GNU GRUB version 2.06", Sight.OTHER),
    # A serial line still shows the time before the restart.
    ("panic: old\nddb> boot reboot\nSeaBIOS (version 1.16)\n" + BANNER + "Passphrase: ",
     Sight.PASSPHRASE),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sight"), SCREENS)
def test_a_screen_is_known_by_its_text(text: str, sight: Sight) -> None:
    assert recognise(screen(text)).sight is sight


def test_blank_and_unreadable_screens() -> None:
    assert recognise(Screen(Kind.BLANK)).sight is Sight.BLANK
    assert recognise(Screen(Kind.GRAPHICS)).sight is Sight.UNREADABLE
    assert recognise(screen("  \n ")).sight is Sight.BLANK


def test_what_is_told_about_a_screen_is_one_line() -> None:
    for text, _ in SCREENS:
        assert "\n" not in recognise(screen(text)).words
    assert "panic: init died" in recognise(screen("panic: init died")).words


def test_the_name_before_a_login() -> None:
    assert hostname(screen("OpenBSD/amd64 (vpn.example.org) (ttyC0)\nlogin:")) == "vpn.example.org"
    assert hostname(screen("OpenBSD/i386 (a) (console)\nlogin:")) == "a"
    assert hostname(screen("Debian 12 host tty1\nlogin:")) is None


def test_the_login_of_another_system() -> None:
    greeting = "OpenBSD/amd64 (vpn.example.org) (ttyC0)\n\nlogin:"
    assert other_system(screen(greeting)) is None
    assert other_system(screen("Login incorrect\nlogin:")) is None
    assert other_system(screen("web login:\nroot on sd0a")) is None
    assert other_system(screen("Debian GNU/Linux 12 web tty1\n\nweb login:")) == "web login:"
    bsd = "FreeBSD/amd64 (web) (ttyv0)"
    assert other_system(screen(f"{bsd}\n\nlogin:")) == bsd
