"""Folders and files become documents; what cannot be read is named and left out; nothing outside is touched."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest

from branchwise.stores.errors import InputError
from branchwise.tree_builder.sources import Skipped, read_sources

sys.path.insert(0, str(Path(__file__).parent))
from reading import read, read_one, write


def test_a_folder_is_read_in_the_order_of_names_without_hidden_files(tmp_path: Path) -> None:
    """Subfolders are read in place, names may hold spaces and accents, and hidden files are passed over in silence."""
    write(tmp_path, {"b.txt": "B", "a/z.md": "Z", "a/y é.rst": "Y", "C.TXT": "C", ".git/x.txt": "no", ".env.txt": "no"})
    documents, skipped = read(tmp_path)
    assert [d.doc_id for d in documents] == ["C.TXT", "a/y é.rst", "a/z.md", "b.txt"]
    assert [d.source for d in documents] == [d.doc_id for d in documents]
    assert skipped == []


def test_names_are_composed_whatever_the_file_system_does(tmp_path: Path) -> None:
    """A name with a separate accent, as macOS writes it, gives the same id as everywhere else."""
    write(tmp_path, {unicodedata.normalize("NFD", "é.txt"): "text"})
    assert read(tmp_path)[0][0].doc_id == unicodedata.normalize("NFC", "é.txt")


def test_other_kinds_of_file_are_named(tmp_path: Path) -> None:
    """Nothing in a folder is ignored in silence but hidden files."""
    write(tmp_path, {"a.txt": "A", "photo.png": b"\x89PNG", "LICENSE": "text"})
    _, skipped = read(tmp_path)
    assert [(s.where, s.why) for s in skipped] == [
        ("LICENSE", "not a kind of file that is read (no ending)"),
        ("photo.png", "not a kind of file that is read (.png)"),
    ]


def test_a_file_named_by_itself_may_have_any_ending(tmp_path: Path) -> None:
    """Whoever names a file wants it read, if it is text."""
    assert read_one(tmp_path, "notes.log", "text").doc_id == "notes.log"


def test_a_missing_path_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """A mistyped path ends the command at once, and is named."""
    with pytest.raises(InputError, match=r"no such file or folder: .*nowhere"):
        read_sources([tmp_path, tmp_path / "nowhere"], on_skip=print)


def test_nothing_left_is_an_error_that_says_what_was_tried(tmp_path: Path) -> None:
    """A collection of which nothing can be read names the collection and the reasons."""
    write(tmp_path, {"a.txt": "", "b.txt": b"\x00\x01"})
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "a.txt: empty; b.txt: binary, not text" in str(caught.value)


def test_a_file_is_read_once_however_often_it_is_reached(tmp_path: Path) -> None:
    """Roots that overlap give no document twice."""
    write(tmp_path, {"docs/a.txt": "A", "docs/sub/b.txt": "B"})
    documents, skipped = read(tmp_path / "docs", tmp_path / "docs" / "sub", tmp_path / "docs" / "a.txt")
    assert [d.doc_id for d in documents] == ["a.txt", "sub/b.txt"]
    assert skipped == []


def test_files_of_one_name_in_two_roots_are_both_kept(tmp_path: Path) -> None:
    """The second README gets its folder's name in front, and the third a number."""
    write(tmp_path, {"one/README.md": "1", "two/README.md": "2", "x/two/README.md": "3"})
    documents, _ = read(tmp_path / "one", tmp_path / "two", tmp_path / "x" / "two")
    assert [d.doc_id for d in documents] == ["README.md", "two/README.md", "two/README.md~2"]


def link(path: Path, target: Path | str) -> None:
    """A symbolic link, or a skip where the system gives none."""
    try:
        path.symlink_to(target)
    except OSError as error:
        pytest.skip(f"no symbolic links here: {error}")


def test_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    """Neither a link to a file nor one to a folder outside is followed; both are named."""
    write(tmp_path, {"secret/key.txt": "secret", "docs/a.txt": "A"})
    link(tmp_path / "docs" / "key.txt", tmp_path / "secret" / "key.txt")
    link(tmp_path / "docs" / "more", Path("..") / "secret")
    documents, skipped = read(tmp_path / "docs")
    assert [d.text for d in documents] == ["A"]
    assert [s.where for s in skipped] == ["key.txt", "more"]
    assert all("leads out of" in s.why for s in skipped)


def test_links_inside_are_no_trap(tmp_path: Path) -> None:
    """A link to a file inside is that file; a link in a circle, to itself or to nothing ends nowhere."""
    write(tmp_path, {".data/a.txt": "A"})
    link(tmp_path / "a.txt", Path(".data") / "a.txt")
    link(tmp_path / "b.txt", Path("a.txt"))
    link(tmp_path / "circle", ".")
    link(tmp_path / "self", "self")
    link(tmp_path / "gone.txt", "nothing.txt")
    documents, skipped = read(tmp_path)
    assert [(d.doc_id, d.text) for d in documents] == [("a.txt", "A")]
    assert sorted(s.where for s in skipped) == ["circle", "gone.txt", "self"]


def test_a_root_may_be_a_link_itself(tmp_path: Path) -> None:
    """The folder that the user names is the one that is read, by whatever name."""
    write(tmp_path, {"real/a.txt": "A"})
    link(tmp_path / "alias", "real")
    assert [d.doc_id for d in read(tmp_path / "alias")[0]] == ["a.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_does_not_hang_the_build(tmp_path: Path) -> None:
    """What is no regular file is not opened."""
    write(tmp_path, {"a.txt": "A"})
    os.mkfifo(tmp_path / "pipe.txt")
    assert read(tmp_path)[1] == [Skipped("pipe.txt", "not a regular file")]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a user who may be refused")
def test_unreadable_files_and_folders_are_named(tmp_path: Path) -> None:
    """A file and a folder without permission are left out, and the rest is read."""
    write(tmp_path, {"a.txt": "A", "b.txt": "B", "c/d.txt": "D"})
    (tmp_path / "b.txt").chmod(0)
    (tmp_path / "c").chmod(0)
    _, skipped = read(tmp_path)
    (tmp_path / "c").chmod(0o700)
    assert [(s.where, s.why) for s in skipped] == [
        ("b.txt", "cannot be read: Permission denied"),
        ("c", "cannot be read: Permission denied"),
    ]


def test_a_file_that_vanishes_while_reading_is_named(tmp_path: Path) -> None:
    """A file deleted by somebody else in the meantime costs that file and no other."""
    write(tmp_path, {"a.txt": "A", "b.txt": "B", "c.txt": "C"})
    skipped: list[Skipped] = []
    reading = read_sources([tmp_path], on_skip=skipped.append)
    assert next(reading).text == "A"
    (tmp_path / "b.txt").unlink()
    assert [d.text for d in reading] == ["C"]
    assert skipped == [Skipped("b.txt", "cannot be read: No such file or directory")]


def test_a_beir_folder_is_its_corpus(tmp_path: Path) -> None:
    """Queries and judgements are no documents, wherever in the tree the set lies."""
    line = '{"_id": "7", "title": "T", "text": "x"}\n'
    write(tmp_path, {"set/corpus.jsonl": line, "set/queries.jsonl": line, "set/qrels/test.tsv": "a\tb\n1\t2\n"})
    for root in (tmp_path, tmp_path / "set"):
        documents, skipped = read(root)
        assert [(d.doc_id, d.title, d.text) for d in documents] == [("7", "T", "x")]
        assert skipped == []
