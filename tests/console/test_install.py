"""The installation by console, on scripted screens; on a real one: docs/providers.md."""

from __future__ import annotations

import pytest

from obsdimg.console import install as module
from obsdimg.console.errors import ConsoleError, LostError
from obsdimg.console.install import InstallEnd, InstallError, Installing, InstallLimits
from obsdimg.console.remote import RemoteConsole
from obsdimg.core.secret import Secret
from support.scripted_console import LOGIN, PROMPT, Scene, ScriptedConsole

PASS, SEAL = "correct horse", "another one"
WELCOME = "obsdimg: this medium installs OpenBSD/amd64 7.7 by itself.\n"
ASKS = WELCOME + "New passphrase: "
AGAIN = ASKS + "\nThe same again: "
GOES_ON = WELCOME + "obsdimg: sd1 is the encrypted volume on sd0a\nInstalling bsd"
DONE = "CONGRATULATIONS! Your OpenBSD install has been successfully completed!\n"
GUARD = "obsdimg: sd0 is NOT EMPTY. It holds:\n  a RAID\nAnswer: "


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOOK", 0.02), ("SETTLE", 0.02), ("ANSWER", 0.1), ("RESTART", 1.0)):
        monkeypatch.setattr(module, name, seconds)


def run(
    *consoles: RemoteConsole | ConsoleError, sealing: str | None = None, host: str | None = None
) -> tuple[InstallEnd, list[str]]:
    told: list[str] = []
    answers = iter(consoles)

    def connect() -> RemoteConsole:
        found = next(answers)
        if isinstance(found, ConsoleError):
            raise found
        return found

    limits = InstallLimits(whole=10, silence=3, reconnect=0.01)
    seal = None if sealing is None else Secret(sealing)
    work = Installing(connect, Secret(PASS), seal, host=host, limits=limits, tell=told.append)
    return work.run(), told


class Hook:
    """Answers as the encryption step does."""

    def __init__(self, *afterwards: Scene) -> None:
        self.afterwards, self.lines = list(afterwards), 0

    def __call__(self, line: str) -> list[Scene]:
        self.lines += 1
        return [AGAIN] if self.lines == 1 else [GOES_ON, *self.afterwards]


def test_from_the_question_to_the_loader_of_the_new_disk() -> None:
    console = ScriptedConsole(
        "SeaBIOS (version 1.16)", "OpenBSD 7.7 (RAMDISK_CD) #0", ASKS,
        answer=Hook("Installing base77.tgz", DONE, "rebooting...", PROMPT),
    )  # fmt: skip
    end, told = run(console)
    assert end is InstallEnd.LOADER
    assert console.typed == f"{PASS}\r{PASS}\r"
    assert console.closed
    assert "Installing base77.tgz" in told
    assert PASS not in " ".join(told)


@pytest.mark.parametrize(
    ("last", "end"),
    [(PROMPT, InstallEnd.LOADER), (GUARD, InstallEnd.ISO_AGAIN), (LOGIN, InstallEnd.LOGIN),
     (DONE + "The operating system has halted.\n", InstallEnd.SAID_SO),
     (DONE, InstallEnd.SAID_SO)],
)  # fmt: skip
def test_the_end_has_several_faces(last: str, end: InstallEnd) -> None:
    found, _ = run(ScriptedConsole(ASKS, answer=Hook(last)))
    assert found is end


def test_a_disk_that_is_not_empty_is_never_erased() -> None:
    console = ScriptedConsole(GUARD)
    end, told = run(console)
    assert end is InstallEnd.ISO_AGAIN
    assert console.typed == ""
    assert "the disk is not empty: nothing is erased" in told


def test_the_sealed_secrets_may_have_another_passphrase() -> None:
    asks = "obsdimg: opening the sealed secrets\nPassphrase of the sealed secrets: "
    console = ScriptedConsole(asks, answer=lambda line: [DONE] if line == SEAL else [asks])
    end, _ = run(console, sealing=SEAL)
    assert end is InstallEnd.SAID_SO
    with pytest.raises(InstallError, match="typed 3 times"):
        run(ScriptedConsole(asks, answer=lambda line: [asks + " ", asks]), sealing="wrong")


def test_a_failed_installation_is_quoted_with_its_last_lines() -> None:
    text = GOES_ON + "\nobsdimg: STOPPED: The old label of sd0 is still in use."
    with pytest.raises(InstallError, match="STOPPED: The old label") as caught:
        run(ScriptedConsole(ASKS, answer=Hook(text)))
    assert caught.value.lines[-1].startswith("obsdimg: STOPPED")


def test_a_console_that_ends_at_the_restart_is_opened_again() -> None:
    first = ScriptedConsole(ASKS, answer=Hook(LostError("vnc: closed")))
    end, _ = run(first, LostError("vnc: not yet"), ScriptedConsole(PROMPT))
    assert end is InstallEnd.LOADER


def test_a_screen_that_stands_still_has_a_limit() -> None:
    with pytest.raises(InstallError, match="has not changed"):
        run(ScriptedConsole(GOES_ON))


def test_the_login_of_another_machine_is_not_the_end_of_the_installation() -> None:
    """The ISO would be taken out of a machine that has not even begun."""
    assert run(ScriptedConsole(LOGIN), host="vpn")[0] is InstallEnd.LOGIN
    for shown, host, says in (
        (LOGIN, "mail", "console of vpn.example.org, not of mail"),
        ("Debian GNU/Linux 12 web tty1\n\nweb login: ", "vpn", "another system: web login:"),
    ):
        console = ScriptedConsole(shown)
        with pytest.raises(InstallError, match=says):
            run(console, host=host)
        assert console.typed == ""
