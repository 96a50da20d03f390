"""What is in a file, of every kind: its encoding, title, text and metadata; what is damaged is named."""

from __future__ import annotations

import codecs
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.stores.errors import InputError
from branchwise.stores.records import Document
from branchwise.tree_builder.sources import Skipped

sys.path.insert(0, str(Path(__file__).parent))
from reading import read, read_one, write

# Encodings and limits


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_unicode_encoding_is_recognised(tmp_path: Path, encoding: str) -> None:
    """A byte-order mark decides, and does not become part of the text; line ends are those of Python."""
    document = read_one(tmp_path, "a.txt", "Größe\r\n東京\r".encode(encoding))
    assert document.text == "Größe\n東京\n"
    assert document.metadata == {}


def test_other_text_is_read_as_windows_1252_and_labelled(tmp_path: Path) -> None:
    """A guessed encoding is written into the metadata."""
    document = read_one(tmp_path, "a.txt", "Größe – 5 €".encode("cp1252"))
    assert (document.text, document.metadata) == ("Größe – 5 €", {"encoding": "cp1252"})


def test_html_may_declare_its_encoding(tmp_path: Path) -> None:
    """The charset of a page is believed where the page decodes with it."""
    page = "<meta charset='shift_jis'><p>東京".encode("shift_jis")
    assert read_one(tmp_path, "a.html", page).text == "東京"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b" \n\t ", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"GIF89a\x00\x01", "binary, not text"),
        (bytes(range(1, 32)) * 3, "binary, not text"),
        ("東京タワー".encode("shift_jis"), "neither UTF-8 nor Windows-1252: save it as UTF-8"),
        (codecs.BOM_UTF16_LE + b"a", "damaged: its mark says UTF-16"),
        (b"x" * 101, "over the limit of 100 bytes a file"),
    ],
)
def test_files_that_are_no_text_are_named(tmp_path: Path, content: bytes, why: str) -> None:
    """Empty, binary, undecodable, damaged and too large files are left out, each with its reason."""
    write(tmp_path, {"a.txt": content, "b.txt": "fine"})
    documents, skipped = read(tmp_path, max_file_bytes=100)
    assert [d.doc_id for d in documents] == ["b.txt"]
    assert skipped == [Skipped("a.txt", why)]


def test_what_no_store_can_keep_is_replaced_one_for_one(tmp_path: Path) -> None:
    """NUL and lone surrogates, which JSON can spell, become U+FFFD: every text can be stored and sent."""
    document = read_one(tmp_path, "a.jsonl", r'{"id": "a\ud800", "text": "x\u0000y\udfff", "k\ud800": "v\ud83d\ude00"}')
    assert (document.doc_id, document.text, document.metadata) == ("a\ufffd", "x\ufffdy\ufffd", {"k\ufffd": "v😀"})


@settings(deadline=None, max_examples=100)  # the first file of a kind imports its reader
@given(
    st.binary(max_size=300),
    st.sampled_from(["a.txt", "a.md", "a.html", "a.jsonl", "a.csv", "a.tsv", "a.pdf", "a.docx"]),
)
def test_any_bytes_in_any_file_are_read_or_named(content: bytes, name: str) -> None:
    """No content of any kind of file raises anything but the error that nothing was found."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), {name: content}) / name
        try:
            documents, _ = read(path)
        except InputError:
            return
        for document in documents:
            document.text.encode()
            assert document.text.strip()


# Text and Markdown


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("a.md", "Some words\n\n# The title\n\nmore", "The title"),
        ("a.rst", "=========\nThe title\n=========\n\nmore", "The title"),
        ("some notes.txt", "no heading", "some notes"),
        ("late.txt", "x\n\n" * 1000 + "# Late\n\n", "late"),
    ],
)
def test_titles_are_headings_or_names(tmp_path: Path, name: str, text: str, title: str) -> None:
    """The first heading near the top is the title, or else the name of the file."""
    assert read_one(tmp_path, name, text).title == title


def test_front_matter_becomes_metadata(tmp_path: Path) -> None:
    """Simple entries are kept with their types, nested ones left out, and the text begins behind."""
    document = read_one(
        tmp_path,
        "a.md",
        "---\ntitle: 'A title: with colon'\nyear: 2021\nprice: 1.50\ndraft: false\nid: 007\nby: Jo # who\n"
        "tags: [a, b]\nnested:\n  - x\n---\n\n# Other\n",
    )
    assert document.title == "A title: with colon"
    assert document.metadata == {"year": 2021, "price": 1.5, "draft": False, "id": "007", "by": "Jo"}
    assert document.text == "\n# Other\n"


def test_a_rule_at_the_top_is_no_front_matter(tmp_path: Path) -> None:
    """A file that begins with a rule loses nothing."""
    text = "---\n\nJust a rule above, and none below"
    assert read_one(tmp_path, "a.md", text).text == text


# HTML


def test_html_is_read_as_a_person_reads_it(tmp_path: Path) -> None:
    """Headings, paragraphs, lists, tables and code stay; scripts, styles, comments, navigation and forms go."""
    page = """<!DOCTYPE html><html><head><title>Site - Guide</title><style>p {color: red}</style>
    <script>document.write("<p>evil</p>"); if (a <!b) {}</script></head><body><nav>Home</nav><!-- hidden <p> -->
    <h1>The <em>guide</em></h1><p>One&nbsp;&amp; two,\n three<br>four</p><h2>Part</h2>
    <ul><li>first<li>second <b>bold</b></ul><pre>def f():\n    # code\n    return 1</pre>
    <table>
    <tr>
 <th>a</th>
 <th>b</th></tr><tr><td>1</td><td>2</td></tr></table><button>Go</button></body></html>"""
    document = read_one(tmp_path, "a.html", page)
    assert document.title == "The guide"
    assert document.text == (
        "# The guide\n\nOne & two, three\nfour\n\n## Part\n\n- first\n- second bold\n\n"
        "```\ndef f():\n    # code\n    return 1\n```\n\na | b\n1 | 2"
    )


def test_title_of_a_page_without_one_heading(tmp_path: Path) -> None:
    """Several or no <h1> leave it to <title>, and without that to the name."""
    assert read_one(tmp_path, "a.html", "<title> My\n page</title><h1>A</h1><h1>B</h1>").title == "My page"
    assert read_one(tmp_path, "b.htm", "<p>x").title == "b"


def test_of_a_page_with_a_main_part_only_that_is_read(tmp_path: Path) -> None:
    """What stands around it on every page of a site is left out, unless the main part is empty."""
    page = "<h1>Site</h1><p>Press ? for help</p><main><h1>Page</h1><p>text</p></main><footer>Imprint</footer>"
    document = read_one(tmp_path, "a.html", page)
    assert (document.title, document.text) == ("Page", "# Page\n\ntext")
    assert read_one(tmp_path, "b.html", "<p>text</p><main><script>fill()</script></main>").text == "text"


@pytest.mark.parametrize(
    "piece",
    ["<!--", "<![", "<a ", "<a", "</a", "&#", "<?", "<pre>", "<div>", "<li>", "<script>", "<", "<td>x", "<svg></p>"],
)
def test_hostile_html_ends(tmp_path: Path, piece: str) -> None:
    """A page of unfinished mark-up takes linear time; a quadratic parser would not come back."""
    write(tmp_path, {"a.html": "<p>text</p>" + piece * 100_000})
    assert "text" in read(tmp_path)[0][0].text


# Lines


def test_jsonl_keeps_ids_titles_and_scalars(tmp_path: Path) -> None:
    """Ids may be numbers or missing, metadata nested or beside, and what is no scalar is left out."""
    documents, skipped = read(
        write(
            tmp_path,
            {
                "c.jsonl": '{"_id": 7, "title": "T", "text": "x", "metadata": {"a": 1}, "b": true, "c": null}\n'
                '\n{"text": "no id", "big": 123456789012345678901234567890, "nan": NaN}\n'
                '{"id": "only-title", "title": "A title", "text": ""}\n'
                '{"_id": "pep-1#12", "text": "part", "doc_id": "pep"}\n',
            },
        )
        / "c.jsonl"
    )
    assert skipped == []
    assert documents == [
        Document(doc_id="7", title="T", text="x", source="c.jsonl", metadata={"a": 1, "b": True}),
        Document(
            doc_id="c.jsonl:3", text="no id", source="c.jsonl", metadata={"big": "123456789012345678901234567890"}
        ),
        Document(doc_id="only-title", title="A title", text="A title", source="c.jsonl"),
        Document(doc_id="pep-1#12", text="part", source="c.jsonl", metadata={"doc_id": "pep", "group": "pep-1"}),
    ]


def test_bad_lines_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    """Every line that cannot be used is named with its number and reason, the good ones around it are kept."""
    lines = [
        b'{"_id": "a", "text": "first"}',
        b'{"_id": "b", "text": ',
        b'{"_id": "c", "text": "\xff"}',
        b"[1, 2]",
        b'{"_id": "d"}',
        b'{"_id": "e", "text": 5}',
        b'{"_id": ["f"], "text": "x"}',
        b'{"_id": "a", "text": "again"}',
        b"[" * 100_000,
        b'{"_id": "g", "text": "' + b"x" * 300_000 + b'"}',
        b'{"_id": "h", "text": "last"}',
    ]
    write(tmp_path, {"c.jsonl": b"\n".join(lines)})
    documents, skipped = read(tmp_path, max_file_bytes=200_000)
    assert [d.doc_id for d in documents] == ["a", "h"]
    assert [(s.where.removeprefix("c.jsonl:"), s.why) for s in skipped] == [
        ("2", "not JSON: Expecting value at column 21"),
        ("3", "not UTF-8"),
        ("4", "JSON, but no object"),
        ("5", "no text"),
        ("6", '"text" is no text'),
        ("7", '"_id" is neither text nor a whole number'),
        ("8", "the id 'a' again: the first line with it stands"),
        ("9", "JSON nested too deeply"),
        ("10", "over the limit of 200,000 bytes a line"),
    ]


def test_one_id_in_two_files_keeps_both(tmp_path: Path) -> None:
    """Two collections that both count from 1 lose nothing: the second gets its file's name in front."""
    line = '{"_id": "1", "text": "x"}'
    documents, skipped = read(write(tmp_path, {"a.jsonl": line, "b.jsonl": line}))
    assert [d.doc_id for d in documents] == ["1", "b.jsonl:1"]
    assert skipped == []


def test_csv_columns_are_text_id_title_and_metadata(tmp_path: Path) -> None:
    """Known columns are found in any case, the others become metadata, cells may hold line breaks."""
    table = 'ID,Title,Text,year\n1,One,"first\nline, second",2001\n\n2,Two,second,\n'
    assert read(write(tmp_path, {"t.csv": table}))[0] == [
        Document(doc_id="1", title="One", text="first\nline, second", source="t.csv", metadata={"year": "2001"}),
        Document(doc_id="2", title="Two", text="second", source="t.csv"),
    ]


def test_a_table_without_a_text_column_is_read_row_by_row(tmp_path: Path) -> None:
    """The cells with the names of their columns are the text; the separator is found by itself."""
    for name, separator in (("a.csv", ";"), ("b.tsv", "\t")):
        rows = "\n".join([f"Frage{separator}Antwort", f"Wie, bitte?{separator}So"])
        documents, _ = read(write(tmp_path, {name: rows}) / name)
        assert [(d.doc_id, d.text) for d in documents] == [(f"{name}:2", "Frage: Wie, bitte?\nAntwort: So")]


def test_bad_rows_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    """A row with too many cells, and a quote that never ends, cost one row each and not the rest of the file."""
    write(tmp_path, {"t.csv": 'id,text\n1,one\n2,two,three\n3,"never closed\n4,four\n5,"a"b\n6,\n7,seven\n'})
    documents, skipped = read(tmp_path)
    assert [d.doc_id for d in documents] == ["1", "4", "7"]
    assert [s.where for s in skipped] == ["t.csv:3", "t.csv:4", "t.csv:6", "t.csv:7"]
    assert [s.why for s in skipped][::3] == ["3 cells under 2 columns", "no text"]


def test_long_cells_are_read(tmp_path: Path) -> None:
    """A cell beyond the csv module's own limit is a document like any other."""
    assert len(read_one(tmp_path, "t.csv", "text\n" + "x" * 500_000).text) == 500_000


# PDF and Office


def pdf(*pages: str) -> bytes:
    """A small PDF with one line of text a page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, page in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 700 Td ({page}) Tj ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    body = "".join(f"{n} 0 obj\n{content}\nendobj\n" for n, content in enumerate(objects, start=1))
    return f"%PDF-1.4\n{body}trailer << /Root 1 0 R /Size {len(objects) + 1} >>\n%%EOF\n".encode()


def test_a_pdf_keeps_its_pages(tmp_path: Path) -> None:
    """The text of all pages, and where each begins."""
    pytest.importorskip("pypdfium2")
    document = read_one(tmp_path, "a.pdf", pdf("Page the first", "Page the second"))
    assert document.text == "Page the first\n\nPage the second\n\n"
    assert [document.text[start:].split("\n")[0] for start in document.page_starts] == [
        "Page the first",
        "Page the second",
    ]


@pytest.mark.parametrize(
    ("content", "why"), [(b"%PDF-1.4 nonsense", "no PDF that opens"), (pdf(""), "pages without text: scanned?")]
)
def test_pdfs_without_text_are_named(tmp_path: Path, content: bytes, why: str) -> None:
    """Damaged and scanned files are left out with their reason."""
    pytest.importorskip("pypdfium2")
    write(tmp_path, {"a.pdf": content, "b.txt": "B"})
    assert [s.why.startswith(why) for s in read(tmp_path)[1]] == [True]


def docx(path: Path, text: str, padding: int = 0) -> None:
    """A Word file of one heading and one paragraph; `padding` zeros make it unfold."""
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{kind}"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships">'
            f'<Relationship Id="r1" Type="{office}" Target="word/document.xml"/></Relationships>',
        )
        archive.writestr(
            "word/document.xml",
            f'<w:document xmlns:w="{word}"><w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body></w:document>',
        )
        if padding:
            archive.writestr("word/media.bin", b"\x00" * padding)


def test_a_word_file_is_read(tmp_path: Path) -> None:
    """Its text, titled by its name."""
    pytest.importorskip("markitdown")
    docx(tmp_path / "letter.docx", "Dear reader")
    documents, skipped = read(tmp_path)
    assert [(d.doc_id, d.title, d.text.strip()) for d in documents] == [("letter.docx", "letter", "Dear reader")]
    assert skipped == []


def test_an_archive_that_explodes_is_refused(tmp_path: Path) -> None:
    """A small file that would unfold to gigabytes is left out before it is unfolded."""
    pytest.importorskip("markitdown")
    docx(tmp_path / "bomb.docx", "x", padding=3_000_000)
    write(tmp_path, {"a.txt": "A"})
    documents, skipped = read(tmp_path, max_file_bytes=200_000)
    assert [d.doc_id for d in documents] == ["a.txt"]
    assert [s.why.startswith("an archive that unfolds to 3,0") for s in skipped] == [True]


def test_an_archive_of_an_unknown_version_is_named(tmp_path: Path) -> None:
    """One that needs a newer unpacker than there is, is left out like any damaged file."""
    pytest.importorskip("markitdown")
    docx(tmp_path / "new.docx", "x")
    content = bytearray((tmp_path / "new.docx").read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 255
    (tmp_path / "new.docx").write_bytes(content)
    write(tmp_path, {"a.txt": "A"})
    documents, skipped = read(tmp_path)
    assert [d.doc_id for d in documents] == ["a.txt"]
    assert [s.why.startswith("damaged") for s in skipped] == [True]


@pytest.mark.parametrize(("name", "module"), [("a.pdf", "pypdfium2"), ("a.docx", "markitdown")])
def test_a_missing_extra_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    """Without the extra the file is left out, and the reason holds the command that installs it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r'pip install "branchwise\[files\]"'):
        read(write(tmp_path, {name: pdf("x")}))
