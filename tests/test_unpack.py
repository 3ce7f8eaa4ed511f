"""Archives that are hostile, damaged or odd: nothing leaves the folder, and nothing half is taken for whole."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import py7zr
import pytest
import rarfile

from extract.download.destination import Limits
from extract.download.kinds import kind_of
from extract.download.unpack import unpack
from mser.errors import CorpusError, DiskError, MserError

LIMITS = Limits(bytes=2**20, entries=50, free=2**40)
GOOD = {"d/a.wav": b"sound" * 100, "d/empty.wav": b"", "Zürich/声.wav": b"x"}


# Archives, made as no honest program does.


def zip_of(files: dict[str, bytes], *more: tuple[zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for info, data in more:
            archive.writestr(info, data)
    return content.getvalue()


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def tar_of(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", errors="surrogateescape") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return content.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def seven_of(files: dict[str, bytes], old: str = "", new: str = "", password: str | None = None) -> bytes:
    """A 7z archive, of which a name is another one of the same length."""
    content = io.BytesIO()
    with py7zr.SevenZipFile(content, "w", password=password) as archive:
        archive.set_encoded_header_mode(False)
        for name, data in files.items():
            archive.writestr(data, name)
    data = bytearray(content.getvalue())
    if old:
        assert len(old) == len(new)
        at = data.index(old.encode("utf-16-le"))
        data[at : at + 2 * len(old)] = new.encode("utf-16-le")
        offset, size = struct.unpack_from("<QQ", data, 12)
        struct.pack_into("<I", data, 28, zlib.crc32(data[32 + offset : 32 + offset + size]))
        struct.pack_into("<I", data, 8, zlib.crc32(data[12:32]))
    return bytes(data)


def rar_of(*files: tuple[str, bytes], method: int = 0x30, mode: int = 0o100644, flags: int = 0x8000) -> bytes:
    """A rar archive of version 4 whose files are stored, whatever the method says."""

    def header(kind: int, flags: int, rest: bytes) -> bytes:
        body = struct.pack("<BHH", kind, flags, 7 + len(rest)) + rest
        return struct.pack("<H", zlib.crc32(body) & 0xFFFF) + body

    blocks = [b"Rar!\x1a\x07\x00", header(0x73, 0, bytes(6))]
    for name, data in files:
        raw = name.encode()
        rest = struct.pack(
            "<IIBIIBBHI", len(data), len(data), 3, zlib.crc32(data), 0x5A210000, 20, method, len(raw), mode
        )
        blocks += [header(0x74, flags, rest + raw), data]
    return b"".join([*blocks, header(0x7B, 0x4000, b"")])


MAKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": zip_of,
    "tar": tar_of,
    "tar.gz": lambda files: gzip.compress(tar_of(files)),
    "tar.bz2": lambda files: bz2.compress(tar_of(files)),
    "tar.xz": lambda files: lzma.compress(tar_of(files)),
    "7z": seven_of,
    "rar": lambda files: rar_of(*files.items()),
}


class Bench:
    """Unpacks what it is given, and looks whether anything but the destination changed."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "corpora" / "new"
        self.folder.parent.mkdir()
        (root / "victim").write_text("untouched", encoding="utf-8")

    def unpack(self, content: bytes, name: str = "x.bin", limits: Limits = LIMITS) -> list[str]:
        archive = self.root / name
        archive.write_bytes(content)
        kind = kind_of(archive, name)
        assert kind is not None
        try:
            return unpack(archive, kind, self.folder, limits)
        finally:
            around = {path.relative_to(self.root).as_posix() for path in self.root.rglob("*")}
            assert {one for one in around if not one.startswith("corpora/new")} == {"corpora", "victim", name}
            assert (self.root / "victim").read_text(encoding="utf-8") == "untouched"
            assert not any(path.is_symlink() for path in self.folder.rglob("*"))

    def refuses(self, content: bytes, match: str, limits: Limits = LIMITS, name: str = "x.bin") -> MserError:
        with pytest.raises(CorpusError, match=match) as caught:
            self.unpack(content, name, limits)
        assert str(caught.value.file).endswith(name)
        return caught.value

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# What is right.


@pytest.mark.parametrize("kind", MAKERS)
def test_an_archive_is_unpacked_whatever_its_name_says(bench: Bench, kind: str) -> None:
    assert bench.unpack(MAKERS[kind](GOOD)) == []
    assert bench.files() == GOOD


def test_a_zstd_archive_is_unpacked(bench: Bench) -> None:
    zstd = pytest.importorskip("backports.zstd")
    bench.unpack(zstd.compress(tar_of(GOOD)))
    assert bench.files() == GOOD


def test_folders_and_dots_in_names_are_as_usual(bench: Bench) -> None:
    bench.unpack(tar_of({"./d/./a.wav": b"a"}, special("./", tarfile.DIRTYPE), special("./d", tarfile.DIRTYPE)))
    assert bench.files() == {"d/a.wav": b"a"}


def test_names_in_utf8_without_the_flag_are_read(bench: Bench) -> None:
    bench.unpack(without_flag(zip_of({"Zürich.wav": b"a"})))
    assert bench.files() == {"Zürich.wav": b"a"}


def without_flag(content: bytes) -> bytes:
    """A zip archive that does not say that its names are UTF-8."""
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + place
        flags = struct.unpack_from("<H", content, at)[0] & ~0x800
        content = content[:at] + struct.pack("<H", flags) + content[at + 2 :]
    return content


def test_modes_owners_and_times_of_an_archive_mean_nothing(bench: Bench) -> None:
    bench.unpack(zip_of({}, (entry("a.wav", stat.S_IFREG | stat.S_ISUID | 0o777), b"a")))
    mode = (bench.folder / "a.wav").stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_IXUSR)


# Names.

NAMES = {
    "../victim": "leads out",
    "d/../../victim": "leads out",
    "/etc/victim": "absolute",
    "..\\victim": "backslash",
    "d\\victim": "backslash",
    "C:/victim": "drive letter",
    "c:victim": "drive letter",
    "new\nline": "control characters",
    "x" * 256: "255 bytes",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_a_name_that_leads_elsewhere_is_refused(
    bench: Bench, make: Callable[[dict[str, bytes]], bytes], name: str
) -> None:
    error = bench.refuses(make({"good.wav": b"g", name: b"hacked"}), NAMES[name])
    assert error.field == repr(name)


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_a_path_of_thousands_of_folders_is_refused_and_told_in_short(
    bench: Bench, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    error = bench.refuses(make({"good.wav": b"g", "a/" * 20_000 + "b.wav": b"h"}), "more than 1024 bytes")
    assert error.field is not None
    assert len(str(error.field)) < 400


@pytest.mark.parametrize("name", ["../victim", "/etc/victi", "C:/victimm", "..\\victim", "new\nliness"])
def test_a_name_of_a_7z_archive_that_leads_elsewhere_is_refused(bench: Bench, name: str) -> None:
    bench.refuses(seven_of({"good.wav": b"g", "0123456789"[: len(name)]: b"h"}, "0123456789"[: len(name)], name),
                  "leads out|absolute|drive|backslash|control")  # fmt: skip


@pytest.mark.parametrize("name", ["../victim", "/etc/victim", "C:/victim"])
def test_a_name_of_a_rar_archive_that_leads_elsewhere_is_refused(bench: Bench, name: str) -> None:
    bench.refuses(rar_of(("good.wav", b"g"), (name, b"h")), "leads out|absolute|drive")


def test_a_zero_in_a_name_does_not_hide_its_end(bench: Bench) -> None:
    bench.refuses(zip_of({"good.wavX.exe": b"a"}).replace(b"wavX", b"wav\0"), "control characters")


@pytest.mark.parametrize(
    "content",
    [
        without_flag(zip_of({"Zürich.wav": b"a"})).replace(b"Z\xc3\xbcrich", b"Z\xfc\xfcrich"),
        zip_of({"Zürich.wav": b"a"}).replace(b"Z\xc3\xbcrich", b"Z\xfc\xfcrich"),
        tar_of({"Z\udcfcrich.wav": b"a"}),
        seven_of({"Zurich.wav": b"a"}, "Zurich.wav", "Z\ufffdrich.wav"),
    ],
    ids=["zip", "zip that says UTF-8", "tar", "7z"],
)
def test_a_name_that_is_not_utf8_is_refused(bench: Bench, content: bytes) -> None:
    bench.refuses(content, "UTF-8|utf-8")


@pytest.mark.parametrize("other", ["D/A.wav", "d/A.wav", "D/b.wav"])
@pytest.mark.parametrize("make", [zip_of, tar_of, seven_of])
def test_names_that_differ_in_case_alone_are_refused(
    bench: Bench, make: Callable[[dict[str, bytes]], bytes], other: str
) -> None:
    bench.refuses(make({"d/a.wav": b"a", other: b"b"}), "upper and lower case")


def test_names_that_differ_in_the_form_of_accents_alone_are_refused(bench: Bench) -> None:
    bench.refuses(tar_of({"mu\u0308de.wav": b"a", "müde.wav": b"b"}), "form of accents")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(bench: Bench) -> None:
    twice = [(zipfile.ZipInfo("a.wav"), b"a"), (zipfile.ZipInfo("a.wav"), b"b")]
    bench.refuses(zip_of({}, *twice), "there twice")


@pytest.mark.parametrize("name", ["a.wav/b.wav", "a.wav/"])
def test_a_file_that_is_a_folder_too_is_refused(bench: Bench, name: str) -> None:
    bench.refuses(zip_of({"a.wav": b"a", name: b""}), "both a file and a folder")


def test_a_7z_name_that_is_there_twice_is_refused(bench: Bench) -> None:
    bench.refuses(seven_of({"a.wav": b"a", "b.wav": b"b"}, "b.wav", "a.wav"), "there twice")


def test_the_backslashes_of_a_7z_archive_are_slashes(bench: Bench) -> None:
    bench.unpack(seven_of({"d-a.wav": b"a"}, "d-a.wav", "d\\a.wav"))
    assert bench.files() == {"d/a.wav": b"a"}


# Links and devices.


@pytest.mark.parametrize("target", ["../../victim", "/etc/passwd", "d", "."])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_of_a_tar_archive_is_refused(bench: Bench, kind: bytes, target: str) -> None:
    error = bench.refuses(tar_of({"d/a.wav": b"a"}, special("link", kind, target)), "a link")
    assert error.field == "'link'"


def test_a_file_through_a_link_is_refused(bench: Bench) -> None:
    link, file = special("d", tarfile.SYMTYPE, "../.."), tarfile.TarInfo("d/victim")
    file.size = 5
    bench.refuses(tar_of({}, link, file), "a link")


def test_a_link_of_a_zip_archive_is_refused(bench: Bench) -> None:
    bench.refuses(zip_of({}, (entry("d", stat.S_IFLNK | 0o777), b"../.."), (entry("d/victim", 0), b"h")), "a link")


def test_a_link_of_a_7z_archive_is_refused(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("made") / "link"
    link.symlink_to("/etc/passwd")
    content = io.BytesIO()
    with py7zr.SevenZipFile(content, "w") as archive:
        archive.write(link, "link")
    bench.refuses(content.getvalue(), "a link")


def test_a_link_of_a_rar_archive_is_refused(bench: Bench) -> None:
    bench.refuses(rar_of(("link", b"/etc/passwd"), mode=0o120777), "a link")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_is_refused(bench: Bench, kind: bytes) -> None:
    bench.refuses(tar_of({}, special("null", kind)), "device")


@pytest.mark.parametrize("mode", [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_device_of_a_zip_archive_is_refused(bench: Bench, mode: int) -> None:
    bench.refuses(zip_of({}, (entry("null", mode), b"")), "device")


# Too much.

HUGE = bytes(LIMITS.bytes + 1)


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "rar"])
def test_more_bytes_than_allowed_are_refused(bench: Bench, kind: str) -> None:
    content = MAKERS[kind]({"huge.wav": HUGE})
    bench.refuses(content, "1048577 bytes unpacked, and perhaps more")
    assert bench.files() == {}


def test_many_files_of_a_few_bytes_count_together(bench: Bench) -> None:
    bench.refuses(zip_of({f"{number}.wav": bytes(2**18) for number in range(5)}), "at most 1048576 bytes")


def test_a_zip_archive_that_declares_less_than_it_holds_is_refused(bench: Bench) -> None:
    content = zip_of({"huge.wav": HUGE})
    bench.refuses(content.replace(struct.pack("<I", len(HUGE)), struct.pack("<I", 10)), "damaged")
    assert sum(map(len, bench.files().values())) <= 10


def test_a_zip_archive_that_declares_more_than_it_holds_is_refused(bench: Bench) -> None:
    content = zip_of({"a.wav": b"a" * 1000})
    bench.refuses(content.replace(struct.pack("<I", 1000), struct.pack("<I", 2000)), "damaged|1000 bytes")


def test_a_hole_in_a_tar_file_counts(bench: Bench) -> None:
    hole = tarfile.TarInfo("hole.wav")
    hole.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40), "GNU.sparse.numblocks": "1"}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        hole.size = 1
        archive.addfile(hole, io.BytesIO(b"a"))
    bench.refuses(content.getvalue(), "unpacked, and perhaps more")


def test_a_header_of_a_tar_archive_that_fills_the_memory_is_refused(bench: Bench) -> None:
    header = special("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    header.size = 2**36
    content = header.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)
    bench.refuses(gzip.compress(content), "a header of 68719476736 bytes|damaged")


def test_headers_of_a_tar_archive_count(bench: Bench) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(25):
            info = tarfile.TarInfo(f"{number}.wav")
            info.pax_headers = {"comment": "x" * 2**20}
            archive.addfile(info)
    bench.refuses(gzip.compress(content.getvalue(), 1), "more than is allowed to be unpacked")


def test_headers_within_headers_of_a_tar_archive_end(bench: Bench) -> None:
    header = special("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    bench.refuses(header.tobuf(tarfile.GNU_FORMAT) * 5000, "damaged")


@pytest.mark.parametrize("make", [zip_of, tar_of, seven_of])
def test_too_many_entries_are_refused(bench: Bench, make: Callable[[dict[str, bytes]], bytes]) -> None:
    bench.refuses(make({f"{number}.wav": b"" for number in range(60)} | {"a.wav": b"a"}), "at most 50 entries")


def test_folders_count_as_entries(bench: Bench) -> None:
    bench.refuses(zip_of({"/".join("abcdefghij" * 6): b"a"}), "at most 50 entries")
    shutil.rmtree(bench.folder)
    bench.refuses(tar_of({"a.wav": b"a"}, *[special("d", tarfile.DIRTYPE)] * 60), "at most 50 entries")


def test_limits_grow_with_the_archive_and_end_with_the_disk(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    archive.write_bytes(b"x")
    assert Limits.of(archive, tmp_path).bytes == 2**30
    os.truncate(archive, 2**30)
    limits = Limits.of(archive, tmp_path)
    assert limits.bytes == 20 * 2**30
    assert 0 < limits.free <= shutil.disk_usage(tmp_path).total


def test_a_disk_that_is_too_small_is_told(bench: Bench) -> None:
    with pytest.raises(DiskError, match="1000 bytes free"):
        bench.unpack(zip_of({"a.wav": bytes(1001)}), limits=Limits(2**20, 50, 1000))


# Damaged, encrypted, nested, empty, none.


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_an_archive_that_is_cut_off_is_refused(bench: Bench, kind: str, share: float) -> None:
    noise = {f"{number}.wav": os.urandom(3000) for number in range(6)}
    content = MAKERS[kind](noise)
    if kind == "tar":  # of which the end is padding
        content = content[: 512 * 7 * 6 + 512]
    if kind == "rar":  # of which the end is a block that may be missing
        content = content[:-7]
    bench.refuses(content[: int(len(content) * share)], "damaged|cut off", name=f"x.{kind}")


def test_a_tar_archive_that_ends_between_two_files_is_refused(bench: Bench) -> None:
    content = tar_of({"a.wav": bytes(512), "b.wav": bytes(512)})
    bench.refuses(content[:1024], "cut off")


def test_a_tar_archive_with_a_damaged_header_is_refused(bench: Bench) -> None:
    content = bytearray(tar_of({"a.wav": bytes(512), "b.wav": bytes(512)}))
    content[1024 + 150] ^= 0x41
    bench.refuses(bytes(content), "damaged")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz", "tar.bz2", "7z", "rar"])
def test_an_archive_with_a_changed_byte_is_refused(bench: Bench, kind: str) -> None:
    data = os.urandom(5000)
    content = bytearray(MAKERS[kind]({"a.wav": data}))
    content[len(content) // 2] ^= 0xFF
    try:
        bench.unpack(bytes(content), f"x.{kind}")
    except CorpusError as error:
        assert "damaged" in str(error)  # noqa: PT017
    else:
        # gzip holds its checksum behind the end of the archive; the download's own was checked before.
        assert kind == "tar.gz"


@pytest.mark.parametrize("kind", ["zip", "7z"])
def test_an_archive_with_a_password_is_refused(bench: Bench, kind: str) -> None:
    content = seven_of({"a.wav": b"a"}, password="secret")
    if kind == "zip":
        raw = bytearray(zip_of({"a.wav": b"a"}))
        raw[6] |= 1
        raw[raw.index(b"PK\x01\x02") + 8] |= 1
        content = bytes(raw)
    bench.refuses(content, "password")


def test_a_rar_archive_with_a_password_is_refused(bench: Bench) -> None:
    bench.refuses(rar_of(("a.wav", b"a"), flags=0x8004), "password")


def test_a_rar_archive_in_parts_is_refused(bench: Bench) -> None:
    bench.refuses(rar_of(("a.wav", b"a"), flags=0x8001), "damaged|several parts")


def test_a_compressed_rar_archive_without_a_program_names_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(bench.root / "nothing"))
    monkeypatch.setattr(rarfile, "CURRENT_SETUP", None)
    with pytest.raises(CorpusError, match="needs a program") as caught:
        bench.unpack(rar_of(("a.wav", b"a" * 50), method=0x33))
    assert "unrar" in str(caught.value)


def test_a_compressed_rar_archive_that_its_program_cannot_unpack_is_refused(bench: Bench) -> None:
    try:
        rarfile.tool_setup(force=True)
    except rarfile.RarCannotExec:
        pytest.skip("no program for rar is installed")
    bench.refuses(rar_of(("a.wav", b"a" * 50), method=0x33), "damaged")


def test_archives_within_an_archive_stay_as_they_are(bench: Bench) -> None:
    inner = zip_of({"../victim": b"h"})
    assert bench.unpack(tar_of({"d/inner.zip": inner, "a.TAR.GZ": b"", "a.wav": b"a"})) == ["d/inner.zip", "a.TAR.GZ"]
    assert bench.files()["d/inner.zip"] == inner


@pytest.mark.parametrize(
    "content",
    [zip_of({}), zip_of({"d/": b""}), tar_of({}, special("d", tarfile.DIRTYPE)), rar_of()],
    ids=["zip", "zip with a folder", "tar with a folder", "rar"],
)
def test_an_archive_without_files_is_refused(bench: Bench, content: bytes) -> None:
    bench.refuses(content, "without a file|damaged")


def test_an_empty_tar_archive_is_refused(bench: Bench) -> None:
    with pytest.raises(CorpusError, match="is no archive"):
        bench.unpack(tar_of({}), name="x.tar")


@pytest.mark.parametrize("name", ["x.zip", "x.7z", "x.RAR", "x.tar", "x.tar.gz", "x.tgz"])
def test_what_is_no_archive_though_named_so_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("\n <!doctype HTML><html><body>Log in</body></html>", encoding="utf-8")
    with pytest.raises(CorpusError, match="an HTML page"):
        kind_of(path, name)
    path.write_bytes(os.urandom(1000) + b"x")
    with pytest.raises(CorpusError, match="begins with"):
        kind_of(path, name)
    path.write_bytes(b"")
    with pytest.raises(CorpusError, match="is no archive"):
        kind_of(path, name)


@pytest.mark.parametrize(
    ("name", "content"),
    [("labels.csv", b"a,b\n"), ("a.wav", b"RIFF"), ("labels.xlsx", zip_of({"xl/a.xml": b"a"})),
     ("labels.csv.gz", gzip.compress(b"a,b\n" * 500)), ("empty.txt", b"")],
)  # fmt: skip
def test_other_files_are_placed_as_they_are(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name, name) is None
