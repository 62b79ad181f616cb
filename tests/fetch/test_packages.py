"""Packages and their dependencies: from a mirror, the cache, or a folder; verified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from obsdimg.fetch.cache import Cache
from obsdimg.fetch.download import DownloadError, ExpiredMirrorError
from obsdimg.fetch.http import Timeouts
from obsdimg.fetch.package_names import PackageName, matches, version_key
from obsdimg.fetch.packages import (
    PackageError,
    PackageSource,
    VerifiedPackage,
    WrongPackageError,
    obtain_packages,
    parse_listing,
    read_contents,
    verify_package,
)
from obsdimg.releases.release import load_release
from obsdimg.signify.archive import UnsignedArchiveError
from obsdimg.signify.errors import HashMismatchError, WrongKeyError
from obsdimg.signify.message import SignifySecretKey
from support.mirror import Fault, Mirror, serve
from support.package_maker import SIGNIFY, package, signed, signed_by_signify

KEY = SignifySecretKey("stand-in pkg secret key", b"\3" * 8, b"\4" * 32)
QUICK = Timeouts(connect=2, read=1, tries=2, first_wait=0.01, longest_wait=0.05)
MAIN, STABLE = "/6.6/packages/amd64", "/6.6/packages-stable/amd64"

RELEASE = {
    "wireguard-go-0.0.20190908": (),
    "wireguard-tools-0.0.20190913": ("shells/bash:bash-*:bash-5.0.11",),
    "bash-5.0.11": ("devel/gettext:gettext-runtime->=0.20:gettext-runtime-0.20.1p0",),
    "gettext-runtime-0.20.1p0": ("converters/libiconv:libiconv-*:libiconv-1.16p0",),
    "libiconv-1.16p0": (),
    "quirks-3.183": (),
    "unzip-6.0p11": (),
    "unzip-6.0p11-iconv": ("converters/libiconv:libiconv-*:libiconv-1.16p0",),
}


@dataclass
class Shop:
    mirror: Mirror
    source: PackageSource
    cache: Cache
    folder: Path

    def put(self, directory: str, packages: dict[str, bytes]) -> None:
        for name, data in packages.items():
            self.mirror.files[f"{directory}/{name}.tgz"] = data
        names = sorted(
            path.rsplit("/", 1)[1]
            for path in self.mirror.files
            if path.startswith(f"{directory}/") and path.endswith(".tgz")
        )
        lines = [f"-rw-r--r--  1 0  0  12345 Oct 12 17:00:00 2019 {name}\n" for name in names]
        self.mirror.files[f"{directory}/index.txt"] = "".join(lines).encode()

    def obtain(self, *names: str, **options: object) -> tuple[VerifiedPackage, ...]:
        first = options.pop("mirrors", ())
        return obtain_packages(
            replace(self.source, mirrors=(*first, *self.source.mirrors)),  # type: ignore[misc]
            names,
            cache=self.cache,
            limits=QUICK,
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with serve() as mirror:
        source = PackageSource("6.6", "amd64", (STABLE[1:], MAIN[1:]), KEY.public(), (mirror.url,))
        made = Shop(mirror, source, Cache(tmp_path / "cache"), tmp_path)
        made.put(MAIN, {n: signed(package(n, d), KEY) for n, d in RELEASE.items()})
        yield made


def names(found: tuple[VerifiedPackage, ...]) -> list[str]:
    return [package.name for package in found]


# Choosing


def test_packages_come_with_all_dependencies_first_and_quirks(shop: Shop) -> None:
    found = shop.obtain("wireguard-go", "wireguard-tools")
    assert names(found) == [
        "wireguard-go-0.0.20190908",
        "libiconv-1.16p0",
        "gettext-runtime-0.20.1p0",
        "bash-5.0.11",
        "wireguard-tools-0.0.20190913",
        "quirks-3.183",
    ]
    assert found[0].file_name == "wireguard-go-0.0.20190908.tgz"
    assert found[0].origin == f"{shop.mirror.url}{MAIN}/wireguard-go-0.0.20190908.tgz"
    assert found[0].signed_on == "2019-10-09T12:00:00Z"


def test_stable_packages_are_preferred(shop: Shop) -> None:
    newer = {"bash-5.0.11p1": RELEASE["bash-5.0.11"], "wireguard-go-0.0.20191012": ()}
    shop.put(STABLE, {n: signed(package(n, d), KEY) for n, d in newer.items()})
    found = names(shop.obtain("wireguard-go", "wireguard-tools"))
    assert "bash-5.0.11p1" in found and "bash-5.0.11" not in found
    assert found[0] == "wireguard-go-0.0.20191012"


def test_a_stable_package_that_does_not_fit_the_specification_is_not_taken(shop: Shop) -> None:
    name = "gettext-runtime-0.19"
    shop.put(STABLE, {name: signed(package(name), KEY)})
    assert "gettext-runtime-0.20.1p0" in names(shop.obtain("bash"))


def test_a_full_name_and_a_stem_without_flavors(shop: Shop) -> None:
    assert names(shop.obtain("unzip", optional=())) == ["unzip-6.0p11"]
    found = names(shop.obtain("unzip-6.0p11-iconv", optional=()))
    assert found == ["libiconv-1.16p0", "unzip-6.0p11-iconv"]


def test_packages_that_need_each_other_end(shop: Shop) -> None:
    pair = {"a-1": ("x/b:b-*:b-1",), "b-1": ("x/a:a-*:a-1",)}
    shop.put(MAIN, {n: signed(package(n, d), KEY) for n, d in pair.items()})
    assert sorted(names(shop.obtain("a", optional=()))) == ["a-1", "b-1"]


def test_branches_of_one_stem_live_side_by_side(shop: Shop) -> None:
    more = {
        "python-2.7.16": (),
        "python-3.7.4": (),
        "x-1": ("lang/python/2.7:python->=2.7,<2.8:python-2.7.16",),
        "y-1": ("lang/python/3.7:python->=3.7,<3.8:python-3.7.4", "x/x:x-*:x-1"),
    }
    shop.put(MAIN, {n: signed(package(n, d), KEY) for n, d in more.items()})
    found = names(shop.obtain("y", optional=()))
    assert found == ["python-3.7.4", "python-2.7.16", "x-1", "y-1"]


def test_a_package_asked_for_by_full_name_serves_as_dependency(shop: Shop) -> None:
    name = "bash-5.0.11p1"
    shop.put(STABLE, {name: signed(package(name, RELEASE["bash-5.0.11"]), KEY)})
    found = names(shop.obtain("bash-5.0.11", "wireguard-tools", optional=()))
    assert "bash-5.0.11" in found and name not in found


def test_a_missing_dependency_names_who_needs_it(shop: Shop) -> None:
    shop.put(MAIN, {"a-1": signed(package("a-1", ("x/gone:gone-*:gone-2.0",)), KEY)})
    with pytest.raises(PackageError, match=r"gone-2\.0, which a-1 needs"):
        shop.obtain("a")


def test_an_unknown_package_is_said_so(shop: Shop) -> None:
    with pytest.raises(PackageError, match="package nonesuch is in none of the folders"):
        shop.obtain("nonesuch")


# Verifying


def test_an_unsigned_package_is_refused(shop: Shop) -> None:
    shop.mirror.files[f"{MAIN}/bash-5.0.11.tgz"] = package("bash-5.0.11")
    with pytest.raises(DownloadError, match="unsigned gzip archive"):
        shop.obtain("bash")


def test_a_package_signed_by_another_key_is_refused(shop: Shop) -> None:
    other = SignifySecretKey.generate("forger")
    shop.mirror.files[f"{MAIN}/bash-5.0.11.tgz"] = signed(package("bash-5.0.11"), other)
    with pytest.raises(DownloadError, match="signed by key number"):
        shop.obtain("bash")


def test_a_genuine_package_under_another_name_is_refused(shop: Shop) -> None:
    shop.mirror.files[f"{MAIN}/bash-5.0.11.tgz"] = shop.mirror.files[f"{MAIN}/quirks-3.183.tgz"]
    with pytest.raises(DownloadError, match=r"it is quirks-3\.183 and not bash-5\.0\.11"):
        shop.obtain("bash")


def test_a_package_for_another_port_is_refused(shop: Shop) -> None:
    shop.mirror.files[f"{MAIN}/quirks-3.183.tgz"] = signed(package("quirks-3.183", (), "*"), KEY)
    shop.obtain("quirks")
    data = signed(package("bash-5.0.11", arch="i386"), KEY)
    with pytest.raises(WrongPackageError, match="for i386, not for amd64"):
        verify_package(data, KEY.public(), "bash-5.0.11", "amd64", "x")


def test_a_changed_byte_in_a_package_is_refused(shop: Shop) -> None:
    data = bytearray(shop.mirror.files[f"{MAIN}/bash-5.0.11.tgz"])
    data[-20] ^= 1
    with pytest.raises(HashMismatchError, match="block 1 of 1"):
        verify_package(bytes(data), KEY.public(), "bash-5.0.11", "amd64", "x")


def test_a_mirror_with_wrong_bytes_is_left_for_the_next(shop: Shop) -> None:
    with serve() as bad:
        bad.files.update(shop.mirror.files)
        bad.faults[f"{MAIN}/bash-5.0.11.tgz"] = [Fault("wrong", always=True)]
        found = shop.obtain("bash", mirrors=[bad.url, shop.mirror.url])
    assert {p.name: p.origin for p in found}["bash-5.0.11"].startswith(shop.mirror.url)


@pytest.mark.skipif(SIGNIFY is None, reason="signify-openbsd is not installed")
def test_packages_signed_by_the_real_signify_are_accepted(shop: Shop) -> None:
    data = signed_by_signify(package("bash-5.0.11", (), payload=b"x" * 400_000), shop.folder, KEY)
    shop.mirror.files[f"{MAIN}/bash-5.0.11.tgz"] = data
    assert shop.obtain("bash", optional=())[0].data == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no archive", "cannot be read"),
        (package("a-1")[:100], "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_what_is_no_package_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(WrongPackageError, match=words):
        read_contents(data, "x")


@pytest.mark.parametrize("line", ["x", "a:b", "a:b:c:d", "a:b-*:nostem"])
def test_an_unknown_form_of_depend_is_refused(line: str) -> None:
    with pytest.raises(WrongPackageError, match="@depend"):
        read_contents(package("a-1", (line,)), "x")


# Where they come from


def test_a_second_run_takes_verified_packages_from_the_cache(shop: Shop) -> None:
    shop.obtain("bash")
    shop.mirror.log.clear()
    shop.obtain("bash")
    assert [path for path, _, _ in shop.mirror.log if path.endswith(".tgz")] == []


def test_damage_in_the_cache_is_noticed_and_mended(shop: Shop) -> None:
    shop.obtain("bash")
    cached = shop.cache.root / MAIN[1:] / "bash-5.0.11.tgz"
    cached.write_bytes(cached.read_bytes()[:-1] + b"?")
    assert "bash-5.0.11" in names(shop.obtain("bash"))
    cached.write_bytes(b"")
    with pytest.raises(Exception, match="empty or cut off"):
        shop.obtain("bash", offline=True)


def test_offline_uses_the_cache_alone(shop: Shop) -> None:
    online = names(shop.obtain("wireguard-tools"))
    shop.mirror.log.clear()
    assert names(shop.obtain("wireguard-tools", offline=True)) == online
    assert shop.mirror.log == []


def test_offline_with_an_empty_cache_says_so(shop: Shop) -> None:
    with pytest.raises(PackageError, match=r"no packages for OpenBSD 6\.6 in the cache") as caught:
        shop.obtain("bash", offline=True)
    assert "--packages DIR" in str(caught.value.hint)
    assert "--mirror" not in str(caught.value.hint)


def test_a_local_folder_works_and_is_verified_too(shop: Shop) -> None:
    folder = shop.folder / "packages"
    folder.mkdir()
    for name, depends in RELEASE.items():
        (folder / f"{name}.tgz").write_bytes(signed(package(name, depends), KEY))
    assert "bash-5.0.11" in names(shop.obtain("wireguard-tools", folder=folder))
    assert shop.mirror.log == []
    (folder / "bash-5.0.11.tgz").write_bytes(package("bash-5.0.11"))
    with pytest.raises(UnsignedArchiveError, match=r"bash-5\.0\.11\.tgz: an unsigned"):
        shop.obtain("wireguard-tools", folder=folder)
    other = replace(shop.source, key=SignifySecretKey.generate("x").public())
    with pytest.raises(WrongKeyError):
        obtain_packages(other, ["libiconv"], cache=shop.cache, folder=folder)


def test_a_mirror_without_index_is_read_by_its_html_listing(shop: Shop) -> None:
    rows = "".join(
        f'<a href="{path.rsplit("/", 1)[1]}">{path.rsplit("/", 1)[1]}</a> 1-Jan-2020\n'
        for path in list(shop.mirror.files)
        if path.endswith(".tgz")
    )
    del shop.mirror.files[f"{MAIN}/index.txt"]
    shop.mirror.files[f"{MAIN}/"] = f"<html><pre>{rows}</pre></html>".encode()
    assert "bash-5.0.11" in names(shop.obtain("bash"))


def test_a_mirror_that_dropped_the_release_is_said_so(shop: Shop) -> None:
    shop.mirror.files.clear()
    with pytest.raises(ExpiredMirrorError, match="no mirror carries it"):
        shop.obtain("bash")


def test_listings_of_both_forms_are_read() -> None:
    assert parse_listing("-rw-r--r-- 1 0 0 9 Oct 1 2019 gtk+3-3.24.11.tgz\n") == {"gtk+3-3.24.11"}
    assert parse_listing('<a href="/pub/a-1.tgz">a-1.tgz</a>') == {"a-1"}
    assert parse_listing("../../x-1.tgz .hidden-1.tgz x.tgz.sig SHA256\n") == {"x-1"}
    assert parse_listing("") == frozenset()


def test_release_files_give_a_source() -> None:
    source = load_release("6.6").package_source()
    assert source.directories == ("6.6/packages-stable/amd64", "6.6/packages/amd64")
    assert source.key.number.hex() == "92e25a876796b238"


# Names and versions


@pytest.mark.parametrize(
    ("name", "stem", "version", "flavors"),
    [
        ("bash-5.0.11p0", "bash", "5.0.11p0", ()),
        ("wireguard-go-0.0.20190908", "wireguard-go", "0.0.20190908", ()),
        ("p5-Net-SSLeay-1.88", "p5-Net-SSLeay", "1.88", ()),
        ("vim-8.1.2061-no_x11-python3", "vim", "8.1.2061", ("no_x11", "python3")),
        ("gtk+3-3.24.11", "gtk+3", "3.24.11", ()),
    ],
)
def test_names_are_taken_apart(name: str, stem: str, version: str, flavors: tuple[str]) -> None:
    found = PackageName.parse(name)
    assert found is not None
    assert (found.stem, found.version, found.flavors) == (stem, version, flavors)


@pytest.mark.parametrize("name", ["bash", "", "-1", "wireguard-go", "../x-1", "a b-1"])
def test_what_is_no_full_name_is_none(name: str) -> None:
    assert PackageName.parse(name) is None


ASCENDING = [
    ("1.0alpha1", "1.0beta2", "1.0rc1", "1.0", "1.0pl1"),
    ("1.9", "1.10", "1.10p0", "1.10p1", "1.10.1", "2"),
    ("5.0.11", "5.0.11p0", "4v0", "1v1"),
    ("1.0a", "1.0b", "1.1"),
]


@pytest.mark.parametrize("versions", ASCENDING)
def test_versions_are_ordered_as_pkg_add_orders_them(versions: tuple[str, ...]) -> None:
    shuffled = [*versions[1:], versions[0]]
    assert sorted(shuffled, key=version_key) == list(versions)


SPECIFICATIONS = [
    ("bash-*", "bash-5.0.11", True),
    ("bash-*", "bash-completion-2.9", False),
    ("gettext-runtime->=0.20", "gettext-runtime-0.20.1p0", True),
    ("gettext-runtime->=0.21", "gettext-runtime-0.20.1p0", False),
    ("python->=3.7,<3.8", "python-3.7.4", True),
    ("python->=3.7,<3.8", "python-3.8.0", False),
    ("python->=3,<4|python-2.7.*", "python-2.7.16", True),
    ("a-=1", "a-1p0", False),
    ("a-1.0", "a-1.0", True),
    ("??", "a-1.0", False),
]


@pytest.mark.parametrize(("specification", "name", "fits"), SPECIFICATIONS)
def test_specifications(specification: str, name: str, fits: bool) -> None:
    parsed = PackageName.parse(name)
    assert parsed is not None
    assert matches(parsed, specification) is fits
