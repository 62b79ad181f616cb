"""The sandbox against scripts that try to get out of it, and against those that eat the host."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from obsdimg.core.bubblewrap import forbidden_by
from obsdimg.rehearsal import Rehearsal, RehearsalLimits, RehearsalVerdict, find_host
from obsdimg.rehearsal import host as rehearsal_host
from obsdimg.rehearsal.host import RehearsalHost, SandboxError
from obsdimg.rehearsal.sandbox import DEVICES, Sandbox
from obsdimg.rehearsal.seccomp import PORTS, seccomp_filter
from support.rehearsal_stage import Stage, make_standin_stage, needs_sandbox, tgz

SECRET = "a key that is none of the ISO's business"
LIMITS = RehearsalLimits(seconds=60.0, quiet=4.0)


@pytest.fixture
def stage() -> Stage:
    return make_standin_stage()


@pytest.fixture
def host_folder() -> Iterator[Path]:
    """A folder of the host that everybody may read and write, with a secret in it: whoever is
    kept out of it is kept out by the sandbox alone."""
    folder = Path(tempfile.mkdtemp(prefix="obsdimg-test-", dir="/var/tmp"))
    folder.chmod(0o777)
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o666)
    yield folder
    shutil.rmtree(folder)


def libraries_of(program: Path) -> list[Path]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [Path(word) for word in re.findall(r"(?:=> |^\t)(/\S+) \(", listed, re.MULTILINE)]


def bring(stage: Stage, name: str) -> None:
    """Put a program of the host into the ramdisk, as /evil/NAME: an ISO may bring what it likes.
    It is no program at first, so that no stand-in takes its place."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    stage.put(f"/evil/{name}", Path(found).resolve().read_bytes(), 0o644)
    for library in libraries_of(Path(found).resolve()):
        stage.put(f"/evil/{library.name}", library.read_bytes(), 0o644)


def play(stage: Stage, script: str, limits: RehearsalLimits = LIMITS) -> Rehearsal:
    """Run `script` as the ISO's /.profile; it prints ESCAPED where it should not get."""
    head = "PATH=/sbin:/bin:/usr/bin:/usr/sbin:/.rehearsal/host\nexport LD_LIBRARY_PATH=/evil\n"
    head += "chmod 755 /evil/* 2>/dev/null\n"
    stage.put("/.profile", f"{head}{script}\nprint the end of the script\n")
    return stage.run(limits=limits)


def lines(result: Rehearsal, word: str) -> list[str]:
    return [line for line in result.transcript.splitlines() if line.startswith(word)]


def held(result: Rehearsal) -> None:
    """The script ran to its end, and nothing escaped."""
    assert lines(result, "the end of the script"), result.transcript
    assert not lines(result, "ESCAPED"), result.transcript


def test_the_way_out_by_two_shells_and_a_moved_folder_is_closed(
    stage: Stage, host_folder: Path
) -> None:
    """One shell sits in a folder below a second root, another moves that folder out of it; with
    a plain chroot `../../..` then is the host."""
    bring(stage, "chroot")
    up = "/".join([".."] * 20)
    held(
        play(
            stage,
            f"""
mkdir -p /jail/deep/er /out
cp -R /evil /.rehearsal /bin /jail/ 2>/dev/null
/evil/chroot /jail /bin/ksh -c ':' && print ESCAPED: there is chroot
( cd /jail/deep/er; sleep 20
  for up in . .. ../.. ../../.. {up}; do
	[[ -e $up{host_folder}/secret ]] && print ESCAPED: $up
	{{ print x >$up{host_folder}/written; }} 2>/dev/null
  done ) &
mv /jail/deep /out/deep
wait
[[ -e {host_folder} ]] && print ESCAPED: the host is in sight
""",
        )
    )
    assert [p.name for p in host_folder.iterdir()] == ["secret"]


def test_links_lead_nowhere(stage: Stage, host_folder: Path) -> None:
    held(
        play(
            stage,
            f"""
ln -s {host_folder}/secret /link; cat /link 2>/dev/null && print ESCAPED: by a link
ln -s /proc/self/root /root-link; [[ -e /root-link/usr ]] && print ESCAPED: by /proc
ln /.rehearsal/host/cat /hard 2>/dev/null && print ESCAPED: a hard link to the host
for f in /.rehearsal/host/cat /lib*/ld-linux* /usr/lib*/ld-*; do
	[[ -e $f ]] && {{ print x >>$f; }} 2>/dev/null && print ESCAPED: $f can be written
	[[ -e $f ]] && chmod 777 $f 2>/dev/null && print ESCAPED: the mode of $f
done
""",
        )
    )


def test_links_in_the_request_folder_do_not_lead_the_rehearsal_astray(
    stage: Stage, host_folder: Path
) -> None:
    """The rehearsal outside reads and writes files there, by names that the sandbox chooses."""
    secret = host_folder / "secret"
    read = play(
        stage, f"ln -s {secret} /.rehearsal/q/7.7.args; print 7.7 0 >/.rehearsal/requests\nsleep 50"
    )
    assert read.verdict is RehearsalVerdict.TOO_MUCH
    assert SECRET not in str(read)
    play(
        stage,
        f"""
for kind in do in out err data spool env; do ln -s {secret} /.rehearsal/q/7.7.$kind; done
print -n 'dmesg\\0/\\0' >/.rehearsal/q/7.7.args; print 7.7 0 >/.rehearsal/requests
rm -rf /.rehearsal/reply/9; ln -s {secret} /.rehearsal/reply/9
cp /.rehearsal/q/7.7.args /.rehearsal/q/9.9.args; print 9.9 0 >/.rehearsal/requests
sleep 50
""",
    )
    assert secret.read_text() == SECRET


def test_a_request_folder_that_is_replaced_by_a_link_is_not_followed(
    stage: Stage, host_folder: Path
) -> None:
    play(
        stage,
        f"""
mv /.rehearsal/q /.rehearsal/old; ln -s {host_folder} /.rehearsal/q
mv /.rehearsal/reply /.rehearsal/older; ln -s {host_folder} /.rehearsal/reply
print -n 'dmesg\\0/\\0' >/.rehearsal/old/7.7.args; print 7.7 0 >/.rehearsal/requests; sleep 50
dmesg
""",
    )
    assert [p.name for p in host_folder.iterdir()] == ["secret"]


# Perl's syscall() by number: mount, umount2, pivot_root, chroot, unshare(NEWUSER), setns, clone
# with NEWUSER, clone3, ptrace(TRACEME), ptrace(SEIZE, 1), process_vm_readv, keyctl, add_key,
# bpf, perf_event_open, userfaultfd, io_uring_setup, open_by_handle_at, mknod of a block device,
# socket (inet, unix, packet, alg), sethostname, reboot, init_module, kexec_load, swapon, setuid
# to another user, personality, fsopen, open_tree, move_mount, name_to_handle_at.
PERL = r"""
my @calls = (
 [165, "proc", "/proc", "proc", 0, 0], [166, "/", 2], [155, ".", "."], [161, "/"],
 [272, 0x10000000], [308, 0, 0], [56, 0x10000011, 0], [435, 0, 88], [101, 0, 0, 0, 0],
 [101, 0x4206, 1, 0, 0], [310, 1, 0, 0, 0, 0, 0], [250, 0, -3, 1], [248, "user", "a", "b", 1, -3],
 [321, 0, 0, 0], [298, 0, 0, -1, -1, 0], [323, 0], [425, 1, 0], [304, 0, 0, 0],
 [133, "/block", 0060666, 0xfc00], [41, 2, 1, 0], [41, 1, 1, 0], [41, 17, 3, 0], [41, 38, 5, 0],
 [170, "x", 1], [169, 0xfee1dead, 672274793, 0x01234567, 0], [175, "", 0, ""], [246, 0, 0, 0, 0],
 [167, "/x", 0], [105, 1], [135, 0x0040000], [430, "tmpfs", 0], [428, -100, "/", 1],
 [429, -100, "/", -100, "/mnt", 0], [303, -100, "/", 0, 0, 0],
);
for my $call (@calls) {
	my ($number, @args) = @$call;
	my $got = syscall($number, @args);
	exit 0 if defined $got && $got == 0 && $number == 56;
	print "ESCAPED: call $number gave $got\n" if defined $got && $got >= 0;
	print "held: $number $!\n" if !defined $got || $got < 0;
}
open(my $tty, "+<", "/dev/tty") or print "no tty\n";
my $letter = "x";
print "ESCAPED: typed into the terminal\n" if ioctl($tty, 0x5412, $letter);
for my $pid (2 .. 4000) {
	print "ESCAPED: a signal to $pid\n" if $pid == HOST && kill 0, $pid;
}
opendir(my $dev, "/dev"); for my $name (readdir $dev) {
	print "ESCAPED: device $name\n" if (-b "/dev/$name" || -c "/dev/$name")
		&& $name !~ /^(null|zero|random|urandom|tty|console|stderr)$/;
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
def test_no_system_call_leads_out_even_with_a_binary_of_its_own(stage: Stage) -> None:
    bring(stage, "perl")
    stage.put("/evil/calls.pl", PERL.replace("HOST", str(os.getpid())))
    result = play(stage, "/evil/perl /evil/calls.pl")
    held(result)
    assert len(lines(result, "held:")) == 34, result.transcript


def test_there_is_no_proc_no_network_and_no_other_users_process(stage: Stage) -> None:
    held(
        play(
            stage,
            f"""
[[ -e /proc/1 || -e /sys/kernel ]] && print ESCAPED: /proc
mkdir -p /proc; mount -t proc proc /proc 2>/dev/null; [[ -e /proc/1 ]] && print ESCAPED: mounted
kill -0 {os.getpid()} 2>/dev/null && print ESCAPED: sees the test
kill -9 {os.getppid()} 2>/dev/null && print ESCAPED: kills
ls /dev/ | while read d; do [[ -b /dev/$d ]] && print ESCAPED: block device $d; done; :
""",
        )
    )


def sandbox_of(script: str, limits: RehearsalLimits = LIMITS) -> Sandbox:
    needs_sandbox()
    host = find_host()
    binds = {"/ksh": host.ksh, "/sleep": host.tools["sleep"]}
    binds |= {str(library): library for library in host.libraries}
    return Sandbox(host, limits, ["/ksh", "-c", script], binds)


def test_every_process_in_it_is_without_rights_and_in_namespaces_of_its_own() -> None:
    sandbox = sandbox_of("/sleep 30 & /sleep 30")
    try:
        sandbox.release()
        until = time.monotonic() + 20
        while len(pids := sandbox._pids()) < 4 and time.monotonic() < until:
            time.sleep(0.05)
        assert len(pids) >= 4, pids
        for pid in pids:
            status = Path(f"/proc/{pid}/status").read_text()
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                if pid != sandbox.pid or kind != "CapBnd":
                    assert int(fields[kind], 16) == 0, (pid, kind, status)
            assert fields["NoNewPrivs"].strip() == "1"
            assert fields["Seccomp"].strip() == "2"
            assert fields["Uid"].split() == [str(sandbox.host.uid)] * 4
            assert sandbox.host.uid != 0
            for kind in ("user", "mnt", "pid", "ipc", "uts", "net", "cgroup"):
                name = f"ns/{kind}"
                assert link(f"/proc/{pid}/{name}") != link(f"/proc/self/{name}")
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert re.search(rf"Max address space +{LIMITS.process_memory} +", limits)
            assert re.search(r"Max core file size +0 +0 ", limits)
    finally:
        sandbox.stop()
    assert sandbox._pids() == []
    sandbox.close()


def test_its_root_is_a_tmpfs_of_the_given_size_with_nothing_of_the_host_writable() -> None:
    sandbox = sandbox_of("/sleep 30")
    try:
        found = os.fstatvfs(sandbox.folder)
        assert found.f_blocks * found.f_frsize == LIMITS.disk
        mounts = Path(f"/proc/{sandbox.pid}/mountinfo").read_text().splitlines()
        assert " - tmpfs " in mounts[0]
        for line in mounts:
            point, options = line.split()[4:6]
            writable = "rw" in options.split(",")
            assert not writable or point == "/" or point.removeprefix("/dev/") in DEVICES, line
        assert not [line for line in mounts if " - proc " in line or " - sysfs " in line]
    finally:
        sandbox.stop()
        sandbox.close()


def test_it_ends_with_the_process_that_started_it_and_leaves_nothing_on_a_disk(
    tmp_path: Path,
) -> None:
    """kill -9 of a rehearsal: no process, no file."""
    needs_sandbox()
    script = """
import sys
from support.rehearsal_stage import make_standin_stage
stage = make_standin_stage()
stage.put("/.profile", "trap '' HUP TERM INT\\n"
    "( trap '' HUP; while :; do sleep 1000; done ) &\\nwhile :; do sleep 1000; done\\n")
from obsdimg.rehearsal import sandbox
original = sandbox.Sandbox.release
def release(self):
    original(self)
    print(self.pid, flush=True)
sandbox.Sandbox.release = release
from obsdimg.rehearsal import RehearsalLimits
stage.run(limits=RehearsalLimits(300.0, 300.0))
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    first = int(child.stdout.readline())
    time.sleep(2)
    inside = link(f"/proc/{first}/ns/pid")
    assert in_namespace(inside)
    child.send_signal(signal.SIGKILL)
    child.wait()
    until = time.monotonic() + 10
    while in_namespace(inside) and time.monotonic() < until:
        time.sleep(0.05)
    assert in_namespace(inside) == []
    assert list(tmp_path.iterdir()) == []


def link(path: Path | str) -> str:
    return str(Path(path).readlink())


def in_namespace(wanted: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and link(entry / "ns/pid") == wanted:
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_what_runs_on_after_the_installation_is_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = b"#!/bin/ksh\ntrap '' HUP TERM\n(sleep 90000 </dev/null >/dev/null 2>&1 &)\n"
    left += b"rm /install.site\n"
    stage.sets["site66.tgz"] = tgz({"install.site": (0o755, left)})
    running: list[dict[int, str]] = []
    original = Sandbox.stop

    def stop(self: Sandbox) -> None:
        running.append({pid: started_at(pid) for pid in self._pids()})
        original(self)

    monkeypatch.setattr(Sandbox, "stop", stop)
    result = stage.run()
    assert result.passed, result.transcript
    assert any(running)
    for pid, start in {k: v for found in running for k, v in found.items()}.items():
        assert not start or started_at(pid) != start


def started_at(pid: int) -> str:
    """When a process started, which tells it from a later one of the same number; nothing for
    one that has ended (also if nobody has asked how yet)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


# What eats the host, each with what is said of it.  `disk` of 48 MB so that the tests are quick.
SMALL = replace(LIMITS, seconds=25.0, quiet=6.0, disk=96 << 20)
GREEDY = {
    "processes": (
        "f() { f & f & wait; }; f 2>/dev/null; sleep 500",
        (RehearsalVerdict.WAITING, RehearsalVerdict.TIME_LIMIT, RehearsalVerdict.TOO_MUCH),
    ),
    "memory of one process": (
        "x=0123456789abcdef; while :; do x=$x$x; done",
        (RehearsalVerdict.FAILED, RehearsalVerdict.TIME_LIMIT, RehearsalVerdict.HOOK_FAILED),
    ),
    "memory of many": (
        "for i in 1 2 3 4; do ( x=0123456789abcdef; while ((${#x} < 40000000)); do x=$x$x;"
        " done; sleep 5000 ) & done; wait",
        (RehearsalVerdict.TOO_MUCH,),
    ),
    "disk": (
        "cat /dev/zero >/big; cat /dev/zero >/bigger; print full; sleep 500",
        (RehearsalVerdict.WAITING, RehearsalVerdict.TIME_LIMIT, RehearsalVerdict.TOO_MUCH),
    ),
    "files": (
        "mkdir /f; while :; do i=$((i + 1)); >/f/$i; done",
        (RehearsalVerdict.TOO_MUCH, RehearsalVerdict.TIME_LIMIT),
    ),
    "output": ("while :; do print -r -- $PATH$PATH; done", (RehearsalVerdict.TIME_LIMIT,)),
    "time": ("while :; do :; done", (RehearsalVerdict.TIME_LIMIT,)),
    "calls": (
        "while :; do print 3.3 0; done >/.rehearsal/requests",
        (RehearsalVerdict.TOO_MUCH,),
    ),
    "no lines": ("cat /dev/zero >/.rehearsal/requests", (RehearsalVerdict.TOO_MUCH,)),
    "a long argument": (
        "x=0123456789abcdef; while ((${#x} < 60000)); do x=$x$x; done; hostname $x $x",
        (RehearsalVerdict.TOO_MUCH,),
    ),
    "a long input": (
        "cat /dev/zero | disklabel -E sd0",
        (RehearsalVerdict.TOO_MUCH,),
    ),
    "two chroots at a time": (
        "chroot /mnt /bin/ksh -c 'sleep 500' & sleep 50; chroot /mnt /bin/ksh",
        (RehearsalVerdict.TOO_MUCH,),
    ),
    "a chroot in a chroot": (
        "chroot /mnt /bin/ksh -c 'chroot /mnt /bin/ksh'; print done; sleep 500",
        (RehearsalVerdict.REFUSED, RehearsalVerdict.MISSING_PROGRAM, RehearsalVerdict.TIME_LIMIT),
    ),
    "a hundred calls at a time": (
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29"
        " 30 31 32 33 34 35 36 37 38 39 40; do (sleep 5000 | sha256) & done; wait",
        (RehearsalVerdict.WAITING, RehearsalVerdict.TIME_LIMIT, RehearsalVerdict.TOO_MUCH),
    ),
}


@pytest.mark.parametrize("name", GREEDY)
def test_what_a_script_may_use_has_an_end(stage: Stage, name: str) -> None:
    script, expected = GREEDY[name]
    started = time.monotonic()
    limits = replace(SMALL, memory=64 << 20, quiet=25.0) if name == "memory of many" else SMALL
    result = play(stage, script, limits)
    assert result.verdict in expected, f"{result.verdict}: {result.message}"
    assert time.monotonic() - started < 60
    assert "\n" not in result.message
    assert result.message


STRANGE = [
    "encrypt -b 31 -- secret",
    "encrypt -b 99999999999999999999 x",
    "date -r 99999999999999999999",
    f"dd if=/dev/zero of=/dev/rsd0c bs={'9' * 5000} count=1",
    "dd if=/dev/rsd0c bs=0 count=1",
    f"dd if=/dev/rsd0c bs=1k skip={'9' * 5000}",
    "dd if=/dev/zero of=/dev/rsd0c seek=x count=1",
    "fdisk -iy -g -b none sd0",
    "bioctl -c C -r 99999999999999999999 -l sd0a softraid0",
    "newfs sd0²",
    "tar -xzf /dev/zero",
    "sha256 /nothing",
    "ftp -o - file:/nothing",
]


@pytest.mark.parametrize("line", STRANGE, ids=[line[:24] for line in STRANGE])
def test_a_stand_in_with_a_strange_argument_ends_in_one_line(stage: Stage, line: str) -> None:
    started = time.monotonic()
    result = play(stage, f"{line} </dev/null; print -- status $?; sleep 500", SMALL)
    assert not result.passed
    assert "\n" not in result.message
    assert "Traceback" not in result.transcript
    assert time.monotonic() - started < 30


# Refusals.


def test_without_bubblewrap_nothing_is_run_and_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = shutil.which
    monkeypatch.setattr(
        rehearsal_host.shutil, "which", lambda n, path=None: None if n == "bwrap" else real(n)
    )
    with pytest.raises(SandboxError) as caught:
        find_host()
    assert caught.value.hint == "install the package bubblewrap"


def fake_bwrap(tmp_path: Path, text: str) -> None:
    (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{text}\n")
    (tmp_path / "bwrap").chmod(0o755)
    tmp_path.chmod(0o755)


def test_a_bubblewrap_that_is_too_old_is_named_with_the_version_that_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_bwrap(tmp_path, "echo bubblewrap 0.6.1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match=r"0\.6\.1") as caught:
        find_host()
    assert caught.value.hint == "install bubblewrap 0.8 or later"


def test_where_no_namespaces_can_be_made_nothing_is_run_not_even_by_root(
    host_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_bwrap(
        host_folder,
        '[ "$1" = --version ] && { echo bubblewrap 0.8.0; exit; }\n'
        "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1",
    )
    monkeypatch.setenv("PATH", f"{host_folder}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match="setting up uid map: Permission denied") as caught:
        find_host()
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ],
)
def test_the_setting_that_forbids_namespaces_is_named(
    tmp_path: Path, name: str, value: str
) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(f"{value}\n")
    hint = forbidden_by(tmp_path)
    assert name.replace("/", ".") in hint
    assert "sysctl" in hint
    assert "container" in forbidden_by(tmp_path / "nothing")


def test_the_filter_of_system_calls_is_made_for_two_processors() -> None:
    for machine in PORTS:
        code = seccomp_filter(machine)
        assert code is not None
        assert len(code) % 8 == 0
    assert seccomp_filter("riscv64") is None


def test_root_gives_the_sandbox_to_nobody() -> None:
    needs_sandbox()
    host: RehearsalHost = find_host()
    if os.geteuid() == 0:
        assert host.uid != 0
        with host.owner():
            assert os.geteuid() == host.uid
        assert os.geteuid() == 0
    else:
        assert host.uid == os.getuid()
