"""Single operations on FFS1 images of several geometries, judged by independent readers."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from obsdimg.ffs import FfsError, FileSystem, NoRoomError, UnsupportedError, make_image
from support.ffs_judges import makefs, problems, read_tree

MB = 1 << 20


@functools.cache
def made(size: int, **options: int) -> bytes:
    """By makefs, with one file, one directory and one link in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = folder / "tree"
        (tree / "etc").mkdir(parents=True)
        (tree / "etc" / "motd").write_text("hello\n" * 1000)
        (tree / "link").symlink_to("etc/motd")
        return makefs(folder, tree, size, **options)


IMAGES: dict[str, Callable[[], bytes]] = {
    "ours-4096-512": lambda: make_image(MB),
    "ours-8192-1024": lambda: make_image(2 * MB, bsize=8192, fsize=1024, inodes=100),
    "ours-4096-4096": lambda: make_image(MB, bsize=4096, fsize=4096),
    "makefs-4096-512": lambda: made(MB, bsize=4096, fsize=512),
    "makefs-8192-1024": lambda: made(2 * MB, bsize=8192, fsize=1024, density=4096),
    "makefs-16384-2048": lambda: made(3 * MB, bsize=16384, fsize=2048),
    "makefs-many-groups": lambda: made(6 * MB, bsize=8192, fsize=1024, maxbpcg=100, density=2048),
    "makefs-4096-4096": lambda: made(2 * MB, bsize=4096, fsize=4096),
}


@pytest.fixture(params=sorted(IMAGES))
def image(request: pytest.FixtureRequest) -> bytes:
    return IMAGES[request.param]()


def groups(image: bytes) -> int:
    return int.from_bytes(image[8192 + 44 : 8192 + 48], "little")


def test_the_image_with_many_groups_has_many() -> None:
    assert groups(IMAGES["makefs-many-groups"]()) > 8


def test_an_untouched_image_comes_back_byte_for_byte(image: bytes) -> None:
    assert FileSystem(image).image() == image
    assert problems(image) == []


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4095, 4096, 4097, 12288, 49151, 49152])
def test_a_file_of_any_size_is_read_back_by_another_reader(image: bytes, size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    fs = FileSystem(image)
    fs.write_file("/new", data, mode=0o4755, uid=3, gid=70000, mtime=1570882929)
    assert read_tree(fs.image())["/new"] == ("file", 0o4755, data)
    stat = fs.stat("/new")
    assert (stat.kind, stat.mode, stat.uid, stat.gid) == ("file", 0o4755, 3, 70000)
    assert (stat.size, stat.nlink, stat.mtime) == (size, 1, 1570882929)
    assert problems(fs.image()) == []


@pytest.mark.parametrize("blocks", [12, 13, 100])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_indirect_blocks_begin_after_the_twelfth(image: bytes, blocks: int, extra: int) -> None:
    bsize = int.from_bytes(image[8192 + 48 : 8192 + 52], "little")
    data = bytes(n % 253 for n in range(bsize * blocks + extra))
    fs = FileSystem(image)
    before = fs.free()
    fs.write_file("/big", data)
    assert read_tree(fs.image())["/big"][2] == data
    assert fs.read_file("/big") == data
    assert problems(fs.image()) == []
    fs.remove("/big")
    assert fs.free() == before
    assert problems(fs.image()) == []


def test_a_file_with_double_indirect_blocks_is_written_and_read() -> None:
    fs = FileSystem(make_image(12 * MB))
    data = b"\5" * ((12 + 1024 + 300) * 4096 + 17)
    fs.write_file("/huge", data)
    assert read_tree(fs.image())["/huge"][2] == data
    assert problems(fs.image()) == []
    fs.write_file("/huge", b"")
    assert problems(fs.image()) == []


def test_replacing_keeps_the_inode_and_the_length_of_the_image(image: bytes) -> None:
    fs = FileSystem(image)
    fs.write_file("/f", b"a" * 30000)
    inode = fs.stat("/f").inode
    for content in (b"b", b"c" * 90000, b""):
        fs.write_file("/f", content)
        assert fs.stat("/f").inode == inode
        assert read_tree(fs.image())["/f"][2] == content
        assert problems(fs.image()) == []
    assert len(fs.image()) == len(image)


def test_a_directory_grows_chunk_by_chunk_and_gives_entries_back(image: bytes) -> None:
    fs = FileSystem(image)
    fs.mkdir("/d", mode=0o750)
    count = min(80, fs.free().inodes)
    names = [f"{'n' * (n % 200)}{n}" for n in range(count)]
    for name in names:
        fs.symlink("t", f"/d/{name}")
    assert fs.listdir("/d") == sorted(names)
    assert problems(fs.image()) == []
    assert sum(p.startswith("/d/") for p in read_tree(fs.image())) == count
    for name in names[::2]:
        fs.remove(f"/d/{name}")
    size = fs.stat("/d").size
    for name in names[::2]:
        fs.symlink("u", f"/d/{name}")
    assert fs.stat("/d").size == size, "freed entries are used again"
    assert problems(fs.image()) == []


@pytest.mark.parametrize("length", [1, 58, 59, 60, 61, 600, 1023])
def test_short_and_long_links_are_read_by_another_reader(image: bytes, length: int) -> None:
    fs = FileSystem(image)
    fs.symlink("x" * length, "/l")
    assert fs.readlink("/l") == "x" * length
    assert read_tree(fs.image())["/l"] == ("link", 0o755, b"x" * length)
    assert problems(fs.image()) == []
    fs.remove("/l")
    assert problems(fs.image()) == []


def test_links_on_the_way_are_followed_and_loops_end() -> None:
    fs = FileSystem(make_image(MB))
    fs.mkdir("/usr")
    fs.mkdir("/usr/bin")
    fs.symlink("usr/bin", "/bin")
    fs.symlink("/bin/../bin", "/usr/again")
    fs.write_file("/usr/again/ls", b"ls")
    assert fs.read_file("/usr/bin/ls") == b"ls"
    fs.symlink("bin/ls", "/ls")
    assert fs.read_file("/ls") == b"ls"
    assert fs.stat("/ls").kind == "file"
    assert fs.stat("/ls", follow=False).kind == "link"
    fs.symlink("/", "/root")
    assert fs.listdir("/root") == fs.listdir("/")
    fs.symlink("loop", "/loop")
    with pytest.raises(FfsError, match="symbolic links"):
        fs.read_file("/loop")
    assert not fs.exists("/loop")
    assert fs.exists("/loop", follow=False)


def test_walk_lists_every_path_sorted_without_following_links() -> None:
    fs = FileSystem(make_image(MB))
    fs.mkdir("/a")
    fs.write_file("/a/x", b"1")
    fs.write_file("/a.b", b"2")
    fs.symlink("a", "/z")
    assert [(p, s.kind) for p, s in fs.walk()] == [
        ("/a", "dir"),
        ("/a.b", "file"),
        ("/a/x", "file"),
        ("/z", "link"),
    ]


def test_names_that_are_not_utf8_survive() -> None:
    fs = FileSystem(make_image(MB))
    fs.write_file("/caf\udce9", b"latin")
    assert fs.listdir("/") == ["caf\udce9"]
    assert fs.read_file("/caf\udce9") == b"latin"


def test_chmod_and_chown_change_nothing_else(image: bytes) -> None:
    fs = FileSystem(image)
    fs.write_file("/f", b"data", mtime=5)
    fs.chmod("/f", 0o1711)
    fs.chown("/f", 1000, 0)
    stat = fs.stat("/f")
    assert (stat.mode, stat.uid, stat.gid, stat.mtime) == (0o1711, 1000, 0, 5)
    assert fs.read_file("/f") == b"data"
    assert problems(fs.image()) == []


def test_the_same_operations_give_the_same_bytes(image: bytes) -> None:
    def edit() -> bytes:
        fs = FileSystem(image)
        fs.mkdir("/d")
        fs.write_file("/d/f", b"1" * 70000)
        fs.symlink("f", "/d/l")
        fs.remove("/d/l")
        return fs.image()

    assert edit() == edit()


def test_taking_everything_away_gives_all_room_back(image: bytes) -> None:
    fs = FileSystem(image)
    before = fs.free()
    fs.mkdir("/d")
    fs.write_file("/d/f", b"1" * 100000)
    fs.symlink("t" * 100, "/d/l")
    for path in ("/d/f", "/d/l", "/d"):
        fs.remove(path)
    assert fs.free() == before


def test_a_full_file_system_says_what_is_needed_and_stays_as_it_was(image: bytes) -> None:
    fs = FileSystem(image)
    fs.write_file("/f", b"kept")
    before, free = fs.image(), fs.free()
    with pytest.raises(NoRoomError, match=rf"blocks? of .* needed; {free.blocks} and"):
        fs.write_file("/g", bytes(free.bytes + 1))
    with pytest.raises(NoRoomError):
        fs.write_file("/f", bytes(len(image) * 2))
    assert fs.image() == before
    assert fs.read_file("/f") == b"kept"


def test_every_last_fragment_can_be_used() -> None:
    fs = FileSystem(make_image(MB))
    fs.write_file("/0", b"z" * 800_000)
    n, size = 1, 3000
    while size:
        try:
            fs.write_file(f"/{n}", b"z" * size)
            n += 1
        except NoRoomError:
            size -= 500
    assert fs.free().blocks == 0
    assert fs.free().fragments < 16, "less is left than one more name and file need"
    assert problems(fs.image()) == []


def test_running_out_of_inodes_says_so_and_changes_nothing() -> None:
    fs = FileSystem(make_image(MB, inodes=32))
    for n in range(fs.free().inodes):
        fs.write_file(f"/{n}", b"")
    assert fs.free().inodes == 0
    before = fs.image()
    for attempt in (
        lambda: fs.write_file("/more", b""),
        lambda: fs.mkdir("/more"),
        lambda: fs.symlink("t", "/more"),
    ):
        with pytest.raises(NoRoomError, match="1 inode needed, 0 of 32 are free"):
            attempt()
    assert fs.image() == before
    assert problems(before) == []


BAD: list[tuple[str, Callable[[FileSystem], object], str]] = [
    ("missing file", lambda fs: fs.read_file("/no"), "no such file"),
    ("missing folder on the way", lambda fs: fs.write_file("/no/x", b""), "no such file"),
    ("a file on the way", lambda fs: fs.write_file("/f/x", b""), "not a directory"),
    ("reading a directory", lambda fs: fs.read_file("/d"), "is a dir"),
    ("writing over a directory", lambda fs: fs.write_file("/d", b""), "is a dir"),
    ("writing over a link", lambda fs: fs.write_file("/l", b""), "is a link"),
    ("listing a file", lambda fs: fs.listdir("/f"), "not a directory"),
    ("target of a file", lambda fs: fs.readlink("/f"), "not a symbolic link"),
    ("directory that exists", lambda fs: fs.mkdir("/d"), "exists"),
    ("link that exists", lambda fs: fs.symlink("x", "/l"), "exists"),
    ("removing what is not there", lambda fs: fs.remove("/no"), "no such file"),
    ("removing a full directory", lambda fs: fs.remove("/d"), "not empty"),
    ("removing the root", lambda fs: fs.remove("/"), "no name"),
    ("removing ..", lambda fs: fs.remove("/d/.."), "no name"),
    ("name too long", lambda fs: fs.write_file("/" + "n" * 256, b""), "256 bytes; 255"),
    ("NUL in a name", lambda fs: fs.mkdir("/a\0b"), "NUL"),
    ("no text", lambda fs: fs.mkdir("/\ud800"), "cannot be a name"),
    ("empty target", lambda fs: fs.symlink("", "/x"), "target of 0 bytes"),
    ("target too long", lambda fs: fs.symlink("x" * 1024, "/x"), "target of 1024 bytes"),
    ("mode", lambda fs: fs.chmod("/f", 0o10000), "mode"),
    ("owner", lambda fs: fs.chown("/f", -1, 0), "out of range"),
    ("time", lambda fs: fs.write_file("/x", b"", mtime=2**31), "range"),
]


@pytest.mark.parametrize(("call", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    call: Callable[[FileSystem], object], message: str
) -> None:
    fs = FileSystem(make_image(MB))
    fs.mkdir("/d")
    fs.write_file("/f", b"1")
    fs.write_file("/d/g", b"1")
    fs.symlink("nowhere", "/l")
    before = fs.image()
    with pytest.raises(FfsError, match=message):
        call(fs)
    assert fs.image() == before


def test_a_name_of_255_bytes_is_allowed() -> None:
    fs = FileSystem(make_image(MB))
    fs.write_file("/" + "n" * 255, b"1")
    assert problems(fs.image()) == []


def hard_linked() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = folder / "tree"
        tree.mkdir()
        (tree / "ls").write_text("all programs in one")
        (tree / "reboot").hardlink_to(tree / "ls")
        return makefs(folder, tree, MB, bsize=4096, fsize=512)


def test_replacing_one_name_of_a_shared_program_leaves_the_others_alone() -> None:
    fs = FileSystem(hard_linked())
    assert fs.stat("/ls").nlink == 2
    fs.write_file("/reboot", b"#!/bin/ksh\n", mode=0o755)
    tree = read_tree(fs.image())
    assert tree["/ls"][2] == b"all programs in one"
    assert tree["/reboot"] == ("file", 0o755, b"#!/bin/ksh\n")
    assert fs.stat("/ls").nlink == fs.stat("/reboot").nlink == 1
    assert problems(fs.image()) == []


def test_removing_one_name_of_a_shared_file_keeps_the_other() -> None:
    fs = FileSystem(hard_linked())
    fs.remove("/ls")
    assert fs.read_file("/reboot") == b"all programs in one"
    assert problems(fs.image()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"", "0 bytes end before"),
        (lambda: bytes(MB), "no FFS1"),
        (lambda: make_image(MB)[: MB // 2], "superblock says"),
        (lambda: made(2 * MB, bsize=4096, fsize=512)[: 2 * MB - 512], "superblock says"),
    ],
)
def test_other_things_than_a_whole_image_are_refused(
    make: Callable[[], bytes], message: str
) -> None:
    with pytest.raises(FfsError, match=message):
        FileSystem(make())


def test_other_kinds_of_ffs_are_refused_by_name(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    if shutil.which("makefs") is None:
        pytest.skip("makefs is not installed")
    for extra, name in ((["-o", "version=2"], "FFS2"), (["-B", "be"], "big-endian")):
        target = tmp_path / "made.img"
        subprocess.run(
            ["makefs", "-t", "ffs", "-s", "1m", *extra, str(target), str(tree)],
            check=True,
            capture_output=True,
            timeout=60,
        )
        with pytest.raises(UnsupportedError, match=name):
            FileSystem(target.read_bytes())


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (10000, {}),
        (MB, {"bsize": 4096, "fsize": 256}),
        (MB, {"bsize": 5000}),
        (64 * MB, {}),
        (MB, {"bsize": 65536, "fsize": 4096}),
        (MB, {"inodes": 100000}),
    ],
)
def test_make_image_refuses_sizes_that_do_not_go_together(
    size: int, options: dict[str, int]
) -> None:
    with pytest.raises(FfsError):
        make_image(size, **options)


@pytest.mark.parametrize("size", [48 * 1024, 100_000, MB, MB + 700, 3_768_320, 8 * MB])
def test_make_image_is_consistent_and_as_long_as_asked(size: int) -> None:
    image = make_image(size)
    assert len(image) == size
    assert problems(image) == []
    fs = FileSystem(image)
    fs.write_file("/f", b"x")
    assert problems(fs.image()) == []
