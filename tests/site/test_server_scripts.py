"""The scripts of siteXX/common/usr/local/sbin, run for real with stand-ins around them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from obsdimg.tunnel.keys import WgPrivateKey
from support.server_bench import SHELLS, ServerBench, program
from support.site_fixtures import RECIPE, UPSTREAM

CDN = "https://cdn.openbsd.org/pub/OpenBSD"
FIRST_BOOT = RECIPE.replace("[tunnel]\n", '[tunnel]\nkeys = "first-boot"\n')
SIX = RECIPE.replace("[tunnel]\n", '[tunnel]\nipv6 = "fd00:66::1/64"\n')
SIX = SIX.replace('"10.0.0.2"', '"10.0.0.2"\nipv6 = "fd00:66::2"')
SIX = SIX.replace('"10.0.0.3"', '"10.0.0.3"\nipv6 = "fd00:66::3"')


@pytest.fixture(params=SHELLS)
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> ServerBench:
    return ServerBench(tmp_path, request.param)


class TestWatch:
    """obsdimg-watch brings back what does not work, and keeps what does."""

    @pytest.fixture(params=["6.6", "7.5"])
    def script(self, bench: ServerBench, request: pytest.FixtureRequest) -> Path:
        bench.stand_in("logger")
        bench.stand_in("pfctl")
        bench.stand_in("pgrep")
        bench.stand_in("rcctl", '[ "$1" = start ] || ! [ -e $T/dead.$2 ]')
        bench.stand_in("obsdimg-tunnel", "exit $(cat $T/$1.$2 2>/dev/null || echo 0)")
        return bench.install("/usr/local/sbin/obsdimg-watch", RECIPE + UPSTREAM, request.param)

    def spoil(self, bench: ServerBench, script: Path, code: int) -> str:
        """Make the check of the tunnel's interface end with `code`; its name."""
        name = "tun0" if "tun0" in script.read_text() else "wg0"
        (bench.root / f"check.{name}").write_text(f"{code}\n")
        return name

    EVERY_MINUTE = ("pfctl -sr", "rcctl check sshd")

    def said(self, bench: ServerBench) -> list[str]:
        """What was logged and done, but for what is asked and done every minute."""
        lines = bench.journal()
        if lines:
            assert [line for line in lines if line in self.EVERY_MINUTE] == [*self.EVERY_MINUTE]
        lines = [line for line in lines if line not in self.EVERY_MINUTE]
        return [line for line in lines if line.startswith(("logger", "rcctl", "pfctl"))]

    def test_what_works_is_left_alone_and_kept(self, bench: ServerBench, script: Path) -> None:
        assert bench.run(script) == ""
        kept = [line.split()[-1] for line in bench.journal() if "obsdimg-tunnel keep" in line]
        assert kept in (
            ["pf", "tun0", "tun1", "sshd", "doas"],
            ["pf", "wg0", "wg1", "sshd", "doas"],
        )
        assert self.said(bench) == ["rcctl check unbound"]

    def test_what_does_not_work_is_started_again_and_that_is_logged(
        self, bench: ServerBench, script: Path
    ) -> None:
        name = self.spoil(bench, script, 1)
        bench.run(script)
        assert self.said(bench) == [
            "rcctl start obsdimg_wg",
            "logger -t obsdimg-watch -p daemon.warning obsdimg_wg did not work; it does again",
            "pfctl -f " + str(bench.root / "etc/pf.conf"),
            "rcctl check unbound",
        ]
        assert f"obsdimg-tunnel keep {name}" not in bench.journal(), "only what works is kept"

    def test_what_does_not_start_is_an_error_in_the_log(
        self, bench: ServerBench, script: Path
    ) -> None:
        bench.stand_in("rcctl", "exit 1")
        self.spoil(bench, script, 1)
        bench.run(script)
        assert "logger -t obsdimg-watch -p daemon.err obsdimg_wg does not work" in self.said(bench)

    def test_a_server_without_its_key_yet_is_no_error(
        self, bench: ServerBench, script: Path
    ) -> None:
        self.spoil(bench, script, 3)
        bench.run(script)
        assert self.said(bench) == ["rcctl check unbound"]

    def test_a_pf_conf_that_was_mended_is_loaded(self, bench: ServerBench, script: Path) -> None:
        (bench.root / "choose.pf").write_text("2\n")
        bench.run(script)
        assert f"pfctl -f {bench.root}/etc/pf.conf" in bench.journal()

    def test_who_tried_ssh_too_often_may_try_again_after_a_while(self, bench: ServerBench) -> None:
        """It may have been the administrator himself, and the table has no end of its own."""
        for name in ("logger", "pfctl", "rcctl", "pgrep", "obsdimg-tunnel"):
            bench.stand_in(name)
        for access in ('ssh_from = "anywhere"', "rescue_minutes = 3", "ssh_window_minutes = 9"):
            text = RECIPE.replace("[access.admin]", f"[access]\n{access}\n[access.admin]")
            bench.run(bench.install("/usr/local/sbin/obsdimg-watch", text))
            assert bench.journal().count("pfctl -q -t intruders -T expire 1800") == 1
            (bench.root / "journal").unlink()

    EARLY = "block drop all\npass in proto carp all keep state (no-sync)\n"
    """Of the rules with which rc(8) starts."""

    @pytest.mark.parametrize(
        ("refused", "loaded", "says"),
        [
            ("none", "etc/pf.conf", "warning pf.conf was not loaded at the boot; it is now"),
            ("etc/pf.conf", "etc/wireguard/good/pf.conf", "err pf.conf has a mistake"),
        ],
    )
    def test_a_pf_conf_that_rc_could_not_load_gives_way_in_memory(
        self, bench: ServerBench, script: Path, refused: str, loaded: str, says: str
    ) -> None:
        """rc(8) leaves its own rules then: no tunnel, and ssh open to everybody."""
        (bench.root / "rules").write_text(self.EARLY)
        (bench.root / "etc/pf.conf").write_text("pass nonsense\n# end\n")
        bench.stand_in(
            "pfctl",
            'case "$1 $2" in "-sr ") cat $T/rules ;;'
            f' "-f $T/{refused}") exit 1 ;; -f*) : >$T/rules ;; esac',
        )
        bench.run(script)
        first = self.said(bench)
        assert [line for line in first if line.startswith("pfctl")][-1] == (
            f"pfctl -f {bench.root}/{loaded}"
        )
        assert any(f"obsdimg-watch -p daemon.{says}" in line for line in first)
        assert bench.read("etc/pf.conf") == "pass nonsense\n# end\n", "its owner mends it"
        (bench.root / "journal").unlink()
        bench.run(script)
        assert self.said(bench) == ["rcctl check unbound"], "and not every minute"

    def test_rules_of_the_owner_with_carp_are_left_alone(
        self, bench: ServerBench, script: Path
    ) -> None:
        bench.stand_in("pfctl", '[ "$1" != -sr ] || echo "pass in proto carp all"')
        (bench.root / "etc/pf.conf").write_text("pass in proto carp\n# end\n")
        bench.run(script)
        assert self.said(bench) == ["rcctl check unbound"]

    RCCTL = """
case "$*" in
"check sshd") [ -e $T/runs ] ;;
"get sshd status") [ ! -e $T/disabled ] ;;
"start sshd") [ -e $T/starts ] && : >$T/runs ;;
esac
"""

    def sshd(self, bench: ServerBench) -> list[str]:
        lines = bench.journal()
        return [line for line in lines if "sshd" in line and line not in self.EVERY_MINUTE]

    def test_sshd_that_does_not_run_is_started(self, bench: ServerBench, script: Path) -> None:
        bench.stand_in("rcctl", self.RCCTL)
        (bench.root / "starts").touch()
        bench.run(script)
        assert self.sshd(bench) == [
            "rcctl get sshd status",
            "rcctl start sshd",
            "logger -t obsdimg-watch -p daemon.warning sshd did not run; it does again",
        ]

    @pytest.mark.parametrize("good", [True, False])
    def test_sshd_that_does_not_start_gets_its_last_good_configuration(
        self, bench: ServerBench, script: Path, good: bool
    ) -> None:
        """Without a mistake, nobody would get in any more after the next boot."""
        bench.stand_in("rcctl", self.RCCTL)
        bench.stand_in(
            "obsdimg-tunnel",
            'case "$*" in "fallback sshd") '
            + (": >$T/starts; exit 2" if good else "exit 1")
            + " ;; esac",
        )
        bench.run(script)
        said = self.sshd(bench)
        assert "obsdimg-tunnel fallback sshd" in said
        words = "with its last good configuration it does" if good else "sshd does not start"
        assert words in said[-1]
        assert (bench.root / "runs").exists() is good

    def test_doas_gets_its_last_good_file_at_once(self, bench: ServerBench, script: Path) -> None:
        (bench.root / "choose.doas").write_text("2\n")
        bench.run(script)
        mine = [line for line in bench.journal() if line.endswith(" doas")]
        assert mine == ["obsdimg-tunnel choose doas"], "and what was refused is not kept"

    def test_sshd_that_is_switched_off_stays_off(self, bench: ServerBench, script: Path) -> None:
        bench.stand_in("rcctl", self.RCCTL)
        (bench.root / "disabled").touch()
        bench.run(script)
        assert self.sshd(bench) == ["rcctl get sshd status"]

    def test_a_change_that_is_being_tried_is_not_undone(
        self, bench: ServerBench, script: Path
    ) -> None:
        self.spoil(bench, script, 1)
        (bench.root / "var/db/obsdimg/apply").mkdir()
        (bench.root / "var/db/obsdimg/apply/pid").write_text(f"{os.getpid()}\n")
        bench.run(script)
        assert bench.journal() == []

    def test_what_was_stopped_on_purpose_stays_stopped(
        self, bench: ServerBench, script: Path
    ) -> None:
        self.spoil(bench, script, 1)
        (bench.root / "etc/wireguard/stopped").touch()
        bench.run(script)
        assert bench.journal() == []

    LEFT = (
        "etc/INS@0123456789",
        "etc/.obsdimg-new.hostname.wg0",
        "etc/rc.d/INS@abcdefghij",
        "etc/wireguard/INS@ABCDEFGHIJ",
        "etc/wireguard/.obsdimg-new.server.conf",
        "etc/wireguard/good/INS@0a1b2c3d4e",
        "usr/local/sbin/INS@0123456789",
        "var/db/obsdimg/.obsdimg-new.XXXXXXXXXX",
        "var/db/obsdimg/apply/pid",
    )
    OTHERS = (
        "etc/INS@short",
        "etc/INS@elevensigns",
        "etc/XINS@0123456789",
        "etc/wireguard/server.conf",
        "etc/wireguard/good/server.conf",
        "etc/mail/INS@0123456789",
        "home/admin/INS@0123456789",
        "var/db/obsdimg/audit",
    )

    def leave(self, bench: ServerBench, boot: float) -> None:
        """Files of a power failure and others; the server started `boot` seconds after them."""
        for name in (*self.LEFT, *self.OTHERS):
            path = bench.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("1\n")
        (bench.root / "etc/INS@folder0000").mkdir(exist_ok=True)
        link = bench.root / "etc/INS@link000000"
        if not link.is_symlink():
            link.symlink_to("wireguard/server.conf")
        started = bench.root / "var/run/dmesg.boot"
        started.touch()
        os.utime(started, (time.time() + boot,) * 2)

    def test_what_a_power_failure_left_half_written_goes_at_the_next_boot(
        self, bench: ServerBench, script: Path
    ) -> None:
        self.leave(bench, boot=60)
        assert bench.run(script) == ""
        assert [name for name in self.LEFT if (bench.root / name).exists()] == []
        assert not (bench.root / "var/db/obsdimg/apply").exists()
        assert [name for name in self.OTHERS if not (bench.root / name).exists()] == []
        assert (bench.root / "etc/INS@folder0000").is_dir()
        assert (bench.root / "etc/INS@link000000").is_symlink()
        assert "rcctl check unbound" in bench.journal(), "and the rest of its work is done"

    def test_what_may_be_being_written_now_stays(self, bench: ServerBench, script: Path) -> None:
        self.leave(bench, boot=-60)
        # install -p sets the time of modification, and it is not this one that counts.
        os.utime(bench.root / self.LEFT[0], (0, 0))
        bench.run(script)
        assert [name for name in self.LEFT if not (bench.root / name).exists()] == []

    def test_it_is_looked_for_once_after_each_boot(self, bench: ServerBench, script: Path) -> None:
        self.leave(bench, boot=60)
        bench.run(script)
        self.leave(bench, boot=60)
        bench.run(script)
        assert [name for name in self.LEFT if not (bench.root / name).exists()] == []

    def test_where_nobody_knows_when_the_server_started_nothing_goes(
        self, bench: ServerBench, script: Path
    ) -> None:
        self.leave(bench, boot=60)
        (bench.root / "var/run/dmesg.boot").unlink()
        bench.run(script)
        assert [name for name in self.LEFT if not (bench.root / name).exists()] == []


class TestRescue:
    """obsdimg-rescue opens ssh once where nobody is heard, and closes it again."""

    OPEN = "pfctl -q -t rescue -T add 0.0.0.0/0 ::/0"
    SHUT = "pfctl -q -t rescue -T flush"
    SHOW = "pfctl -q -t rescue -T show"

    @pytest.fixture(params=["6.6", "7.5"])
    def script(self, bench: ServerBench, request: pytest.FixtureRequest) -> Path:
        bench.stand_in("logger")
        bench.stand_in(
            "pfctl",
            'case "$*" in *show) cat $T/table 2>/dev/null ;; *add*) echo 0.0.0.0/0 >$T/table ;;'
            " *flush) rm -f $T/table ;; esac",
        )
        bench.stand_in("uptime", "cat $T/up")
        bench.stand_in("wg", 'echo "KEY $(cat $T/heard 2>/dev/null || echo 0)"')
        bench.stand_in("ifconfig", "[ -e $T/heard ] && echo 'last handshake: 3 seconds ago'")
        text = RECIPE.replace("[access.admin]", "[access]\nrescue_minutes = 3\n[access.admin]")
        return bench.install("/usr/local/sbin/obsdimg-rescue", text, request.param)

    def at(self, bench: ServerBench, script: Path, up: str | int) -> list[str]:
        """Run it after `up` (minutes, or the words of uptime(1)); what pf was told."""
        if isinstance(up, int):
            hours, minutes = divmod(up, 60)
            up = f"up {hours:2}:{minutes:02}" if hours and minutes else f"up {minutes} mins"
            up = f"up {hours} hr" if hours and not minutes else up
        (bench.root / "up").write_text(f"11:59PM  {up}, 2 users, load averages: 1.05, 0.44, 0.17\n")
        before = len(bench.journal())
        assert bench.run(script) == ""
        told = [line for line in bench.journal()[before:] if line.startswith("pfctl")]
        return [line for line in told if line != self.SHOW]

    def logged(self, bench: ServerBench) -> list[str]:
        return [line for line in bench.journal() if line.startswith("logger")]

    def test_before_the_time_nothing_is_open(self, bench: ServerBench, script: Path) -> None:
        for up in ("37 secs", 1, 2):
            assert self.at(bench, script, up) == []

    def test_it_opens_to_the_minute_and_closes_after_an_hour_for_good(
        self, bench: ServerBench, script: Path
    ) -> None:
        for up in (3, 4, 59, 60, 61, 62):
            assert self.at(bench, script, up) == [self.OPEN], up
        assert self.at(bench, script, 63) == [self.SHUT]
        for up in ("up 64 mins", "up  2:00", "up 1 day, 1 min", "up 400 days,  0:03"):
            assert self.at(bench, script, up) == [], "once for each boot"
        assert len(self.logged(bench)) == 2

    @pytest.mark.parametrize(
        ("up", "closes"),
        [
            *(("up 4 mins", False), ("up 1 min", True), ("up 1 hr", False), ("up  1:02", False)),
            *(("up 2 hrs", True), ("up 23:59", True), ("up 1 day", True), ("59 secs", True)),
            ("up 1 day,  1:01", True),
            ("up 2 days, 4 mins", True),
            # Without knowing, nothing is open.
            ("uptime: /var/run/utmp: No such file or directory", True),
        ],
    )
    def test_every_way_in_which_uptime_says_it(
        self, bench: ServerBench, script: Path, up: str, closes: bool
    ) -> None:
        (bench.root / "table").write_text("0.0.0.0/0\n")
        assert self.at(bench, script, up) == [self.SHUT if closes else self.OPEN]

    def test_a_full_disk_and_missed_minutes_do_not_keep_it_open(
        self, bench: ServerBench, script: Path
    ) -> None:
        """Minutes were counted in a file once: lost with the disk full, they began anew."""
        (bench.root / "var/run").rmdir()
        assert self.at(bench, script, 5) == [self.OPEN]
        assert self.at(bench, script, 90) == [self.SHUT]
        assert self.at(bench, script, 91) == []

    def test_a_handshake_closes_it_and_nothing_opens_it_again(
        self, bench: ServerBench, script: Path
    ) -> None:
        self.at(bench, script, 4)
        (bench.root / "heard").write_text("1700000000\n")
        assert self.at(bench, script, 5) == [self.SHUT]
        (bench.root / "heard").unlink()
        assert [self.at(bench, script, up) for up in (6, 7, 62, 63)] == [[]] * 4
        assert "a peer was heard" in self.logged(bench)[-1]

    def test_a_server_that_was_reached_never_opens(self, bench: ServerBench, script: Path) -> None:
        (bench.root / "heard").write_text("1700000000\n")
        self.at(bench, script, 1)
        (bench.root / "heard").unlink()
        assert [self.at(bench, script, up) for up in (3, 9)] == [[]] * 2


class TestUpkeep:
    """obsdimg-upkeep installs patches, says so, and reboots only if it may."""

    def prepare(self, bench: ServerBench, text: str = RECIPE, code: int = 0) -> Path:
        bench.stand_in("logger")
        bench.stand_in("shutdown")
        bench.stand_in("uname", '[ "$1" = -r ] && echo 6.6 || echo amd64')
        bench.stand_in("ftp", "[ ! -e $T/answer ] || { cat $T/answer >&2; exit 1; }")
        bench.stand_in("pkg_add", "echo noise; exit $(cat $T/pkg 2>/dev/null || echo 0)")
        bench.stand_in(
            "syspatch",
            '[ "$1" = -l ] && { cat $T/patches 2>/dev/null; exit 0; }\n'
            f"[ -e $T/new ] && mv $T/new $T/patches\necho noise; exit {code}",
        )
        return bench.install("/usr/local/sbin/obsdimg-upkeep", text)

    @pytest.mark.parametrize("code", [0, 2])
    def test_without_a_new_patch_it_is_silent(self, bench: ServerBench, code: int) -> None:
        script = self.prepare(bench, code=code)
        assert bench.run(script) == ""
        assert bench.journal() == [
            *("uname -r", "uname -m"),
            f"ftp -MV -w 30 -o /dev/null {CDN}/6.6/amd64/SHA256.sig",
            *("syspatch -l", "syspatch ", "syspatch ", "syspatch -l"),
            "pkg_add -Iu",
        ]

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            ("ftp: Error retrieving file: 404 Not Found", True),
            (f"ftp: Error retrieving {CDN}/6.6/amd64/SHA256.sig: 404 Not Found", True),
            ("ftp: Error retrieving file: 410 Gone", True),
            ("ftp: Error retrieving file: 503 Service Unavailable", False),
            ("ftp: cdn.openbsd.org: no address associated with name", False),
        ],
    )
    def test_a_mirror_that_dropped_the_release_is_logged(
        self, bench: ServerBench, answer: str, says: bool
    ) -> None:
        script = self.prepare(bench)
        (bench.root / "answer").write_text(answer + "\n")
        bench.run(script)
        said = [line for line in bench.journal() if line.startswith("logger")]
        drop = f"logger -t obsdimg-upkeep -p daemon.notice {CDN} no longer has OpenBSD 6.6, so no"
        assert [line for line in said if line.startswith(drop)] == said
        assert len(said) == says

    @pytest.mark.parametrize("text", ["# note\n\nhttps://m.example/pub/ x\n", ""])
    def test_the_mirror_is_the_first_of_installurl_else_the_cdn(
        self, bench: ServerBench, text: str
    ) -> None:
        script = self.prepare(bench)
        (bench.root / "etc/installurl").write_text(text)
        bench.run(script)
        asked = next(line for line in bench.journal() if line.startswith("ftp"))
        mirror = "https://m.example/pub" if text else CDN
        assert asked.endswith(f" {mirror}/6.6/amd64/SHA256.sig")

    def test_a_patch_is_logged_and_without_leave_nothing_reboots(self, bench: ServerBench) -> None:
        script = self.prepare(bench)
        (bench.root / "new").write_text("001_rpki\n")
        bench.run(script)
        said = [line for line in bench.journal() if line.startswith(("logger", "shutdown"))]
        assert said == [
            "logger -t obsdimg-upkeep -p daemon.notice patches installed: 001_rpki",
            "logger -t obsdimg-upkeep -p daemon.notice"
            " a reboot makes them take effect (upkeep.reboot is off)",
        ]

    def test_with_leave_it_reboots_after_a_patch_and_only_then(self, bench: ServerBench) -> None:
        script = self.prepare(bench, RECIPE + "[upkeep]\nreboot = true\n")
        bench.run(script)
        assert not any(line.startswith("shutdown") for line in bench.journal())
        (bench.root / "new").write_text("001_rpki\n")
        bench.run(script)
        assert bench.journal()[-1] == "shutdown -r now patched by obsdimg-upkeep"

    def test_failures_are_logged(self, bench: ServerBench) -> None:
        script = self.prepare(bench, code=1)
        (bench.root / "pkg").write_text("1\n")
        bench.run(script)
        assert [line for line in bench.journal() if line.startswith("logger")] == [
            "logger -t obsdimg-upkeep -p daemon.notice syspatch failed (see syspatch -c)",
            "logger -t obsdimg-upkeep -p daemon.notice updates of packages failed (see pkg_add -u)",
        ]


class TestOutside6:
    """obsdimg-outside6 tells pf the lasting global addresses."""

    IFCONFIG = """\
vio0: flags=a48843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST,AUTOCONF6TEMP,AUTOCONF6> mtu 1500
\tinet6 fe80::1%vio0 prefixlen 64 scopeid 0x1
\tinet6 2001:db8::5 prefixlen 64 autoconf pltime 604734 vltime 2591934
\tinet6 2001:db8::77 prefixlen 64 autoconf autoconfprivacy pltime 86134 vltime 172534
\tinet6 2001:db8::88 prefixlen 64 deprecated autoconf pltime 0 vltime 100
\tinet6 fd00::5 prefixlen 64
\tinet6 2001:db8:1::5 prefixlen 64
"""

    @pytest.fixture
    def script(self, bench: ServerBench) -> Path:
        bench.stand_in("pfctl")
        bench.stand_in("ifconfig", "cat $T/ifconfig")
        text = SIX.replace("[[network.int", '[network]\nipv6 = "autoconf"\n[[network.int')
        return bench.install("/usr/local/sbin/obsdimg-outside6", text)

    def test_link_local_private_and_temporary_addresses_are_left_out(
        self, bench: ServerBench, script: Path
    ) -> None:
        (bench.root / "ifconfig").write_text(self.IFCONFIG)
        bench.run(script)
        assert bench.journal() == [
            "ifconfig vio0 inet6",
            "pfctl -q -t outside6 -T replace 2001:db8::5 2001:db8:1::5",
        ]

    def test_without_an_address_the_table_stays_as_it_is(
        self, bench: ServerBench, script: Path
    ) -> None:
        bench.run(script, code=None)
        assert bench.journal() == ["ifconfig vio0 inet6"]


class TestFirstTime:
    """obsdimg-firsttime: packages, the key, the safety window, patches; then it is gone."""

    def prepare(self, bench: ServerBench, text: str = RECIPE, version: str = "6.6") -> Path:
        (bench.root / "usr/bin").mkdir(exist_ok=True)
        (bench.root / "usr/bin/perl").touch()
        (bench.root / "usr/bin/perl").chmod(0o755)
        bench.stand_in("obsdimg-tunnel")
        for name in ("pkg_add", "syspatch", "pfctl"):
            bench.stand_in(name, f"cat >>$T/{name}.stdin 2>/dev/null")
        (bench.root / "var/obsdimg/packages").mkdir(parents=True)
        return bench.install("/usr/local/sbin/obsdimg-firsttime", text, version)

    def with_key(
        self, bench: ServerBench, version: str = "6.6", more: str = ""
    ) -> tuple[Path, list[Path]]:
        """A server that makes its own key; real `wg` and openssl behind journals."""
        script = self.prepare(bench, FIRST_BOOT + more, version)
        bench.stand_in("wg", f'exec {program("wg")} "$@"')
        bench.stand_in("openssl", f'exec {program("openssl")} "$@"')
        bench.stand_in(
            "ifconfig",
            f"printf '\\twgpubkey '; sed -n 's/^wgkey \\([^ ]*\\).*/\\1/p'"
            f" $T/etc/hostname.wg0 | {program('wg')} pubkey",
        )
        paths = ["/etc/wireguard/server.conf", "/etc/wireguard/upstream.conf"]
        if version != "6.6":
            paths = ["/etc/hostname.wg0", "/etc/hostname.wg1"]
            (bench.root / "etc/netstart").write_text(f'echo "netstart $*" >>{bench.root}/journal\n')
        files = [bench.install(p, FIRST_BOOT + more, version) for p in paths[: 2 if more else 1]]
        bench.install("/usr/local/sbin/obsdimg-qr", FIRST_BOOT, version).write_text(
            f'#!/bin/sh\necho "QR of $1"; echo "qr $1" >>{bench.root}/journal\n'
        )
        return script, files

    def test_carried_packages_are_installed_and_then_removed(self, bench: ServerBench) -> None:
        script = self.prepare(bench)
        bench.stand_in("pkg_add", 'echo "PKG_PATH=$PKG_PATH" >>$T/journal')
        bench.run(script)
        assert bench.journal() == [
            "pkg_add -I wireguard-go wireguard-tools",
            f"PKG_PATH={bench.root}/var/obsdimg/packages/",
            *("syspatch ", "syspatch "),
        ]
        assert not (bench.root / "var/obsdimg").exists()
        assert not script.exists()

    @pytest.mark.parametrize("ours", [True, False])
    def test_at_its_end_the_next_boot_need_not_do_it_again(
        self, bench: ServerBench, ours: bool
    ) -> None:
        script = self.prepare(bench)
        again = bench.root / "etc/rc.firsttime"
        again.write_text(f"{script}\n" if ours else f"{script}\nof somebody else\n")
        # For as long as it runs, a power failure must find it there.
        bench.stand_in("pkg_add", "[ -s $T/etc/rc.firsttime ] && echo there >>$T/journal")
        bench.run(script)
        assert bench.journal()[1] == "there"
        assert again.exists() is not ours

    def test_packages_that_fail_are_kept_for_a_second_try_by_hand(self, bench: ServerBench) -> None:
        script = self.prepare(bench)
        bench.stand_in("pkg_add", "exit 1")
        said = bench.run(script)
        assert "packages FAILED" in said
        assert f"PKG_PATH={bench.root}/var/obsdimg/packages/ pkg_add wireguard-go" in said
        assert (bench.root / "var/obsdimg/packages").exists()
        assert "syspatch " in bench.journal(), "the rest goes on"

    @pytest.mark.parametrize(
        ("ends", "runs", "fails"),
        [
            ((0, 0), 2, False),
            ((0, 2), 2, False),  # later releases: nothing is left to do
            ((2, 0), 2, False),  # a patch of syspatch itself
            ((2, 2), 2, False),
            ((1,), 1, True),  # no mirror, no release
            ((2, 1), 2, True),
        ],
    )
    def test_patches_that_fail_are_named_on_the_console(
        self, bench: ServerBench, ends: tuple[int, ...], runs: int, fails: bool
    ) -> None:
        script = self.prepare(bench)
        (bench.root / "ends").write_text("".join(f"{code}\n" for code in ends))
        bench.stand_in(
            "syspatch", 'code=$(sed 1q "$T/ends"); sed 1d "$T/ends" >"$T/e"; mv "$T/e" "$T/ends"\n'
            "exit $code",
        )  # fmt: skip
        said = bench.run(script)
        assert bench.journal().count("syspatch ") == runs
        assert ("obsdimg: patches FAILED; by hand: syspatch" in said) == fails
        assert said.endswith("obsdimg: the steps of the first boot have ended\n")
        assert not script.exists()

    def test_packages_from_a_mirror(self, bench: ServerBench) -> None:
        script = self.prepare(bench, RECIPE + "[packages]\ncarry = false\n")
        bench.run(script)
        assert bench.journal()[0] == "pkg_add -I wireguard-go wireguard-tools"

    @pytest.mark.parametrize("more", ["", UPSTREAM], ids=["one hop", "two hops"])
    @pytest.mark.parametrize("version", ["6.6", "7.5"])
    def test_the_key_is_made_here_and_only_its_public_half_is_shown(
        self, bench: ServerBench, version: str, more: str
    ) -> None:
        script, files = self.with_key(bench, version, more)
        mail = bench.run(script)
        console = bench.read("dev/console")
        public = bench.read("etc/wireguard/server.pub").strip()
        for path in files:
            text = path.read_text()
            assert "@SERVER-KEY@" not in text
            words = text.split()
            found = words[words.index("wgkey" if version != "6.6" else "PrivateKey") + 1 :]
            key = next(word for word in found if word != "=")
            assert WgPrivateKey.parse(key).public().text() == public
            for place in (mail, console, "\n".join(bench.journal())):
                assert key not in place
            assert path.stat().st_mode & 0o777 == (0o600 if version == "6.6" else 0o640)
            left = [p.name for p in path.parent.iterdir() if p.name.startswith(path.name + ".")]
            left += [p.name for p in (bench.root / "etc/wireguard").glob(".*")]
            assert left == []
        assert f"QR of {public}" in console
        assert f"obsdimg client --server-key {public}" in console
        if version != "6.6":
            assert f"netstart wg0{' wg1' if more else ''}" in bench.journal()

    def test_without_perl_the_key_is_shown_and_the_missing_code_is_explained(
        self, bench: ServerBench
    ) -> None:
        script, _ = self.with_key(bench)
        (bench.root / "usr/bin/perl").unlink()
        assert "not found" not in bench.run(script)
        console = bench.read("dev/console")
        assert bench.read("etc/wireguard/server.pub").strip() in console
        assert "(no QR code: " in console

    def test_what_draws_the_code_is_gone_afterwards_and_the_key_file_is_kept_as_good(
        self, bench: ServerBench
    ) -> None:
        script, _ = self.with_key(bench)
        bench.run(script)
        assert not (bench.root / "usr/local/sbin/obsdimg-qr").exists()
        assert "obsdimg-tunnel keep tun0" in bench.journal()

    def test_the_rest_of_the_key_file_is_as_it_was(self, bench: ServerBench) -> None:
        script, files = self.with_key(bench)
        before = files[0].read_text()
        bench.run(script)
        key = files[0].read_text().split("PrivateKey = ")[1].split("\n")[0]
        assert files[0].read_text() == before.replace("@SERVER-KEY@", key)

    @pytest.mark.parametrize("version", ["6.6", "7.5"])
    def test_without_a_key_nothing_is_written_and_it_can_be_run_again(
        self, bench: ServerBench, version: str
    ) -> None:
        script, files = self.with_key(bench, version)
        before = files[0].read_text()
        bench.stand_in("wg" if version == "6.6" else "openssl", "exit 127")
        said = bench.run(script)
        assert "the server's key FAILED to be made" in said
        assert files[0].read_text() == before
        assert script.exists()
        assert bench.read("dev/console") == ""
        bench.stand_in("wg", f'exec {program("wg")} "$@"')
        bench.stand_in("openssl", f'exec {program("openssl")} "$@"')
        bench.run(script)
        assert "@SERVER-KEY@" not in files[0].read_text()
        assert not script.exists()

    def test_a_second_run_does_not_make_a_second_key(self, bench: ServerBench) -> None:
        script, files = self.with_key(bench)
        text = script.read_text()
        bench.run(script)
        first = files[0].read_text()
        script.write_text(text)
        assert "has its key already" in bench.run(script)
        assert files[0].read_text() == first

    WINDOW = RECIPE + "[access]\nssh_window_minutes = 30\n"

    def test_the_window_opens_and_who_closes_it_sleeps_already(self, bench: ServerBench) -> None:
        script = self.prepare(bench, self.WINDOW)
        bench.stand_in("nohup", 'sh -c "$3" </dev/null; echo ended >$T/ended')
        bench.stand_in("sleep")
        text = script.read_text()
        assert "FAILED" not in bench.run(script)
        limit = time.monotonic() + 20
        while not (bench.root / "ended").exists() and time.monotonic() < limit:
            time.sleep(0.02)
        said = [line for line in bench.journal() if line.startswith(("pfctl", "sleep", "at "))]
        assert sorted(said) == [
            "pfctl -q -t window -T add 0.0.0.0/0 ::/0",
            "pfctl -q -t window -T flush",
            "sleep 1800",
        ]
        assert text.index("sleep 1800") < text.index("-T add"), "what cannot be closed stays shut"

    def test_a_window_that_pf_refuses_is_said(self, bench: ServerBench) -> None:
        script = self.prepare(bench, self.WINDOW)
        bench.stand_in("nohup")
        bench.stand_in("pfctl", "exit 1")
        assert "safety window FAILED" in bench.run(script)
