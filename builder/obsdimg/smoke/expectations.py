"""What a guest says, and what it means: the table of marks, each with its source.

Sources are those of the facts sheet: E66 and E77 seen on a real 6.6 or 7.7 amd64, R66 the
genuine 6.6 installer, A66 a distribution's copy of it, S19 the OpenBSD source of 2019, T tried
on the genuine 5.1 floppy, OURS a text of this project (response/obsdimg.sh, siteXX/), K general
knowledge.  Limits are seconds with hardware acceleration.
"""

from __future__ import annotations

from obsdimg.smoke.console import Failure, Mark

SOURCES = {
    "E66": "seen on a real OpenBSD 6.6 amd64 in QEMU",
    "E77": "seen on a real OpenBSD 7.7 amd64 in QEMU",
    "R66": "the genuine 6.6 installer",
    "A66": "a distribution's copy of the 6.6 installer",
    "S19": "OpenBSD's source of mid 2019",
    "T": "seen on the genuine 5.1 i386 floppy in QEMU",
    "OURS": "a text of this project",
    "K": "general knowledge, not verified",
}

# --- failures ---------------------------------------------------------------------------

PANIC = Failure("panic", r"^panic: .*|fatal (?:page|protection|non-maskable).*", "S19 T",
                "the guest's kernel crashed: try --accelerator tcg, and report it")  # fmt: skip
DEBUGGER = Failure("ddb", r"^ddb(?:\{\d+\})?> ", "S19", "the guest's kernel crashed")
NO_BOOT = Failure(
    "no-boot",
    r"No bootable device",  # `Boot failed: ...` for one drive is no failure: the next is tried
    "T E66",
    "is this an ISO made by `obsdimg build`?",
)
LOADER_ERROR = Failure(
    "loader-error",
    r"^(?!cannot open \S*random\.seed).*(?:: No such file or directory|Invalid format|bad magic).*",
    "S19 E66",
    "the boot loader did not find its kernel: `obsdimg inspect` shows what the ISO boots",
)  # fmt: skip

AI_FAILED = Failure("ai-failed", r"failed; check /tmp/ai/ai\.log", "R66",
                    "the reason stands above it in the transcript")  # fmt: skip
NO_ANSWER = Failure("no-answer", r'Question has no answer in response file: ".*', "R66",
                    "add it under [[answers]]; `obsdimg check` lists every question")  # fmt: skip
STOPPED = Failure("stopped", r"^obsdimg: STOPPED: [^\n]*(?=\n)", "OURS")
"""Known by its whole line only: the beginning of LEFT_ALONE's is the same, and a busy guest says
a line in pieces (seen on a real 7.7)."""
MENU = Failure(
    "menu", r"\(I\)nstall, \(U\)pgrade, \(A\)utoinstall or \(S\)hell\? ", "R66",
    "the installer fell back to its menu: what failed stands above it",
)  # fmt: skip

INSTALL_FAILURES = (
    STOPPED,
    NO_ANSWER,
    AI_FAILED,
    Failure("bad-choice", r"'.*' is not a valid choice\..*", "R66",
            "an answer is not among the installer's choices"),
    Failure("response-required", r"A response is required\.", "R66"),
    Failure("autopartition", r"Autopartitioning failed\.", "R66",
            "the disk is too small for the template"),
    Failure("no-template", r"No autopartitioning template found\.", "R66"),
    Failure("no-root", r"'/' must be configured!", "R66"),
    Failure("no-sets", r".*and found no OpenBSD/.*", "R66", "the ISO holds no sets"),
    Failure("bootblocks", r"Failed to install bootblocks.*", "R66"),
    Failure("install-site", r"install\.site failed", "R66",
            "what it said stands above it in the transcript"),
    Failure("no-filesystems", r"No filesystems found on .*", "R66"),
    Failure("mount-conflict", r".*can't both be mounted.*", "R66"),
    Failure("no-such-disk", r".*no such disk.*", "R66"),
    Failure("unverified", r"Checksum test for .* failed\..*|Signature check of .* failed.*", "R66",
            "the sets on the ISO are damaged, or signed with another key"),
    Failure("bioctl", r"softraid0: incorrect key or passphrase|Passphrases did not match", "E66"),
    Failure("halted", r"The operating system has halted\.", "E66",
            "the guest halted instead of rebooting"),
)  # fmt: skip

BOOT_FAILURES = (
    Failure("single-user", r"Enter pathname of shell or RETURN for sh: ", "K",
            "a file system check failed, or a script ended the boot"),
    Failure("root-device", r"^root device:", "S19", "the kernel did not find its root disk"),
    Failure("pf", r"^pfctl: .*(?:not loaded|error).*", "K", "pf.conf was not accepted"),
)  # fmt: skip

# --- the boot loader ----------------------------------------------------------------------

LOADER_PASSPHRASE = Mark(
    "loader-passphrase", r"Passphrase: ", "E66 13", 60, (NO_BOOT,),
    "the boot loader's question for the passphrase",
)  # fmt: skip
INCORRECT = Mark(
    "incorrect-passphrase", r"incorrect passphrase\s+Passphrase: ", "E66 13", 90,
    says="the boot loader's refusal of a wrong passphrase",
)  # fmt: skip
WRONG_PASSPHRASE = Failure(
    "wrong-passphrase", r"incorrect passphrase", "E66 13",
    "the disk was encrypted with another passphrase than the one given",
)  # fmt: skip
LOADER_ABORTED = Failure("aborting", r"aborting\.\.\.", "S19", "an empty passphrase was typed")
ON_SERIAL = Mark(
    "loader-on-serial", r">> OpenBSD/\S+ \S+ [\d.]+[^\n]*\s+boot> ", "T", 15,
    says="the boot loader's greeting on the serial line, after `set tty com0`",
)  # fmt: skip
MISUNDERSTOOD = Mark(
    "loader-misunderstood", r"^(?:(?![^\n]*>> OpenBSD/)[^\n]*\n)?boot> ", "S19 E77", 15,
    says="the boot loader's refusal of what it did not understand",
)  # fmt: skip
"""Its prompt without a greeting: `boot: illegal argument`, `set: syntax error`, `not a console
device` or nothing stands before it, by what it lost (cmd.c)."""
UNLOCKED = Mark(
    "loader-unlocked", r"^booting sr\d+a:", "E66 E77", 90,
    says="the boot loader starting the kernel from the volume",
)  # fmt: skip
"""A loader whose boot.conf says `boot` stands at no prompt after the passphrase."""
SWITCHED = "switching console to com"
"""What a loader says that moves to com0; of the BIOS's the 0 comes somewhere later (E66, E77)."""


def loader_prompt(*failures: Failure, limit: float = 60) -> Mark:
    """The loader's `boot> `; it waits 5 seconds there (boot(8))."""
    return Mark(
        "loader-prompt", r"boot> ", "T E66 13", limit, (NO_BOOT, *failures),
        "the boot loader's prompt",
    )  # fmt: skip


KERNEL = Mark(
    "kernel", r"^OpenBSD \d+\.\d+[^\n]*\((?:RAMDISK|GENERIC)[^\n]*", "T E66", 60, (LOADER_ERROR,),
    "the kernel's first lines",
)  # fmt: skip

# --- the installer --------------------------------------------------------------------------

WELCOME = Mark("welcome", r"Welcome to the OpenBSD/\S+ \S+ installation program\.", "R66", 60,
               says="the installer's greeting")  # fmt: skip
NO_AUTOINSTALL = Failure(
    "no-autoinstall", MENU.pattern, "R66",
    "this ISO does not install by itself: was it made by `obsdimg build`?",
)  # fmt: skip
NON_INTERACTIVE = Mark(
    "non-interactive", r"Starting non-interactive mode in 5 seconds\.\.\.", "E66 13", 60,
    says="the automatic installation's announcement",
)  # fmt: skip
HOOK = Mark("hook", r"^obsdimg: this medium installs ", "OURS", 60, (STOPPED,),
            "the greeting of the encryption step")  # fmt: skip
NOT_EMPTY = Mark("not-empty", r"^obsdimg: \S+ is NOT EMPTY\. It holds:", "OURS", 60,
                 says="the encryption step's warning that the disk is not empty")  # fmt: skip
ANSWER = Mark("answer", r"^Answer: ", "OURS", 30, (STOPPED,),
              "the encryption step's question whether to erase the disk")  # fmt: skip
NEW_PASSPHRASE = Mark("new-passphrase", r"^New passphrase: ", "OURS", 60, (STOPPED,),
                      "the question for a new passphrase")  # fmt: skip
SAME_AGAIN = Mark("same-again", r"^The same again: ", "OURS", 15, (
    STOPPED,
    Failure("refused", r"^obsdimg: (?:Empty|Shorter|Longer|Holds a character|Begins).*", "OURS",
            "the passphrase does not meet the encryption step's rules"),
), "the question for the passphrase's repetition")  # fmt: skip
DIFFER = Mark("differ", r"^obsdimg: The two differ\. Once more\.", "OURS", 15, (STOPPED,),
              "the refusal of two different passphrases")  # fmt: skip
INSTALLING = Mark("installing", r"^Performing non-interactive install\.\.\.", "R66", 60,
                  INSTALL_FAILURES, "the start of the installation")  # fmt: skip
LEFT_ALONE = Mark("left-alone", r"^obsdimg: STOPPED: \S+ was left as it is\. Nothing was changed\.",
                  "OURS", 30, says="the encryption step leaving the disk alone")  # fmt: skip

FILL = Mark("fill", r"^obsdimg: random data: (\d+) of (\d+) MB", "OURS", 120, INSTALL_FAILURES,
            "the disk being filled with random data")  # fmt: skip
VOLUME = Mark("volume", r"^obsdimg: (\S+) is the encrypted volume on (\S+)", "OURS", 120,
              INSTALL_FAILURES, "the encrypted volume")  # fmt: skip
DISKS = Mark("disks", r"^Available disks are: ", "E66 13", 60, INSTALL_FAILURES,
             "the list of disks")  # fmt: skip
VERIFIED = Mark("verified", r"Signature Verified", "E66 13", 60, INSTALL_FAILURES,
                "the verified signature of the sets")  # fmt: skip
SET = Mark("set", r"Installing (\S+)(?=\s)", "R66", 120, INSTALL_FAILURES, "a set")
SEALED = Mark("sealed", r"^obsdimg: the sealed secrets are in place", "OURS", 120, INSTALL_FAILURES,
              "the sealed secrets")  # fmt: skip
SEALED_ASKS = Mark("sealed-asks", r"Passphrase of the sealed secrets: ", "OURS", 120,
                   INSTALL_FAILURES, "the question for the sealing passphrase")  # fmt: skip
NODES = Mark("nodes", r"Making all device nodes\.\.\. ?done\.", "E66 13", 120, INSTALL_FAILURES,
             "device nodes")  # fmt: skip
RELINK = Mark("relink", r"Relinking to create unique kernel\.\.\. ?(?:done\.|failed)", "R66", 300,
              INSTALL_FAILURES, "the relinked kernel")  # fmt: skip
CONGRATULATIONS = Mark(
    "congratulations",
    r"CONGRATULATIONS! Your OpenBSD install has been successfully completed!",
    "E66 13", 300, INSTALL_FAILURES, "the installer's congratulations",
)  # fmt: skip
HALTED = Mark("halted", r"The operating system has halted\.", "E66 13", 120,
              says="the halt after the installation")  # fmt: skip
INSTALL_STEPS = (FILL, VOLUME, DISKS, VERIFIED, SET, NODES, RELINK, SEALED, SEALED_ASKS,
                 CONGRATULATIONS)  # fmt: skip

# --- the installed system ---------------------------------------------------------------------

ROOT_ON = Mark("root-on", r"^root on (sd\d+a)\b", "E66 13", 60, BOOT_FAILURES,
               "the kernel's root disk")  # fmt: skip
BOOTED = Mark(
    "booted",
    r"^starting local daemons:[^\n]*\bcron\b[^\n]*\.\n+\w{3} \w{3} +\d+ \d\d:\d\d:\d\d"
    r"|^\S* ?login: ",
    "E66 13", 900, BOOT_FAILURES,
    "the last lines of the boot (`starting local daemons: cron.` and the date)",
)  # fmt: skip
FAILED_DAEMON = r"^starting [^:]*daemons:.*"
"""rc(8) names every daemon it starts; `name(failed)` and `name(absent)` are those that did not
(E66 13, 14)."""
FAILED_STEP = r"^obsdimg: .*\bFAILED\b.*|^obsdimg-tunnel: .* the last good one holds again.*"
"""A step of the first boot, or a file that was not as it should be at any boot
(siteXX/common/usr/local/sbin/obsdimg-firsttime, obsdimg-tunnel, OURS)."""
PATCHES_FAILED = "obsdimg: patches FAILED"
"""The step of the first boot that needs the internet (obsdimg-firsttime, OURS)."""
NAME_NOT_FOUND = r"^(?:syspatch|ftp): ([A-Za-z0-9.-]+): no address associated with name"
"""From syspatch(8): it found no address of the mirror (E66, E77)."""
STEPS_ENDED = r"^obsdimg: the steps of the first boot have ended"
"""The last line of obsdimg-firsttime (OURS)."""
SERVER_KEY = r"==== public key of this server: ([A-Za-z0-9+/]{43}=) ===="
"""From siteXX/common/usr/local/sbin/obsdimg-firsttime (OURS)."""
