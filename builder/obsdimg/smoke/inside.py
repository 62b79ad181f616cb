"""Looks at the guest from inside, over ssh with a key: what only a shell there can tell."""

from __future__ import annotations

import re
from dataclasses import dataclass

from obsdimg.core.process import ProcessError, run
from obsdimg.smoke.plan import Login
from obsdimg.smoke.result import SmokeCheck, SmokeVerdict


@dataclass(frozen=True)
class _Question:
    """A command for the guest's shell, and what its output must look like (or must not)."""

    name: str
    command: str
    wanted: str
    """A regular expression that must be found in what it prints."""


def _questions(encrypted: bool) -> list[_Question]:
    questions = [
        _Question("packets are forwarded", "sysctl -n net.inet.ip.forwarding", r"\A1\Z"),
        _Question("pf blocks by default", "$root pfctl -sr", r"(?m)^block (?:drop )?all"),
        _Question("pf translates the tunnel's addresses", "$root pfctl -sr", r"nat-to"),
        _Question("no service has failed", "$root rcctl ls failed; echo end", r"\Aend\Z"),
        _Question(
            "install.site and the sealed secrets are gone",
            "ls -d /install.site /obsdimg.* 2>/dev/null; echo end",
            r"\Aend\Z",
        ),
        _Question(
            "no client's configuration is on the server",
            '$root sh -c \'find /etc /root /home /var /tmp -name "*.conf" -exec grep -l'
            ' "^[[:space:]]*DNS[[:space:]]*=" {} + 2>/dev/null; echo end\'',
            r"\Aend\Z",
        ),
        _Question(
            "the tunnel's files are for root only",
            "$root sh -c 'find /etc/wireguard /etc/hostname.* -type f -perm -004 2>/dev/null;"
            " echo end'",
            r"\Aend\Z",
        ),
    ]
    if encrypted:
        questions.insert(
            0, _Question("the disk is encrypted", "$root bioctl softraid0", r"Online.*CRYPTO")
        )
    return questions


def inside_script(encrypted: bool, root: str) -> str:
    """The questions as a script for the guest's sh.  `root`: what makes a command run as root."""
    return "".join(
        f"echo @@{number}@@; {{ {q.command.replace('$root ', root)}; }} 2>&1\n"
        for number, q in enumerate(_questions(encrypted))
    )


def judge_inside(encrypted: bool, output: str) -> list[SmokeCheck]:
    """A check for each question, from what `inside_script` printed."""
    return judge(_questions(encrypted), output)


def check_inside(login: Login, port: int, encrypted: bool, timeout: float) -> list[SmokeCheck]:
    """Log in on 127.0.0.1:`port` and ask; a check for every question."""
    root = "" if login.user == "root" else "doas -n "
    script = inside_script(encrypted, root)
    try:
        done = run(
            ["ssh", "-T", "-p", str(port), "-i", login.identity, "-F", "none",
             "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
             "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
             "-o", f"ConnectTimeout={int(timeout)}", f"{login.user}@127.0.0.1", "sh"],
            stdin=script.encode(),
            timeout=timeout + 60,
            check=False,
        )  # fmt: skip
    except ProcessError as error:
        return [SmokeCheck("login over ssh", SmokeVerdict.FAILED, error.message)]
    if done.returncode == 255:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return [
            SmokeCheck("login over ssh", SmokeVerdict.FAILED, said[0] if said else "ssh failed")
        ]
    return [
        SmokeCheck.of("login over ssh", True, login.user),
        *judge_inside(encrypted, done.stdout.decode(errors="replace")),
    ]


def judge(questions: list[_Question], output: str) -> list[SmokeCheck]:
    """A check for each question, from the output with its `@@N@@` lines."""
    parts = re.split(r"(?m)^@@(\d+)@@\n?", output)
    answers = {int(parts[i]): parts[i + 1].strip() for i in range(1, len(parts) - 1, 2)}
    checks = []
    for number, question in enumerate(questions):
        answer = answers.get(number)
        if answer is None:
            checks.append(SmokeCheck(question.name, SmokeVerdict.FAILED, "no answer"))
            continue
        good = re.search(question.wanted, answer) is not None
        first = answer.removesuffix("end").strip().splitlines()
        shown = "; ".join(first[:3]) + (" ..." if len(first) > 3 else "")
        checks.append(SmokeCheck.of(question.name, good, shown))
    return checks
