"""The command line: exit codes, one clear line an error, one JSON object, nothing on the wrong stream."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.surfaces.terminal.conftest import ENTRY, TEXTS, Ran, branchwise, environment

Call = Callable[..., Ran]

QUESTION = "Why does a lake freeze from above?"


def broken(library: Path, folder: Path, how: str) -> Path:
    """A copy of the index that something has happened to."""
    copy = folder / "index"
    shutil.copytree(library, copy)
    if how == "version":
        manifest = copy / "manifest.json"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text("utf-8")), "format_version": 99}), "utf-8")
    else:
        (file,) = copy.glob("generations/*/vectors.npy")
        file.write_bytes(file.read_bytes()[:-100])
    return copy


BAD: dict[str, tuple[int, list[str]]] = {
    "missing source": (2, ["build", "{tmp}/nothing here", "-i", "{tmp}/x"]),
    "nothing usable": (2, ["build", "{corpus}/noise.txt", "-i", "{tmp}/x"]),
    "no index named": (2, ["search", QUESTION]),
    "no index there": (3, ["search", QUESTION, "-i", "{tmp}/none"]),
    "empty question": (2, ["search", "  ", "-i", "{library}"]),
    "endless question": (2, ["ask", "why " * 25_000, "-i", "{library}"]),
    "k of zero": (2, ["search", QUESTION, "-k", "0", "-i", "{library}"]),
    "k of a million": (2, ["search", QUESTION, "-k", "1000000", "-i", "{library}"]),
    "k not a number": (2, ["search", QUESTION, "-k", "many", "-i", "{library}"]),
    "negative limit": (2, ["search", QUESTION, "--max-calls", "-1", "-i", "{library}"]),
    "half a filter": (2, ["search", QUESTION, "--filter", "year", "-i", "{library}"]),
    "unknown node": (3, ["tree", "show", "--node", "n:nothing", "-i", "{library}"]),
    "unknown document": (3, ["remove", "nothing.txt", "-i", "{library}"]),
    "unknown kind of tree": (2, ["build", "{corpus}", "--tree", "oak", "-i", "{tmp}/x"]),
    "unknown embedder": (2, ["build", "{corpus}", "--embedder", "word2vec", "-i", "{tmp}/x"]),
    "export to nowhere": (2, ["tree", "export", "-o", "{tmp}/a/b.html", "-i", "{library}"]),
    "export to a kind unknown": (2, ["tree", "export", "-o", "{tmp}/tree.docx", "-i", "{library}"]),
    "no backup": (2, ["restore", "{corpus}/owls.txt", "-i", "{tmp}/x"]),
    "no trace": (2, ["trace", "{corpus}/owls.txt", "-i", "{library}"]),
    "no dataset": (2, ["eval", "--dataset", "{corpus}", "--yes"]),
    "unknown option": (2, ["search", QUESTION, "--fast"]),
    "unknown command": (2, ["guess"]),
    "no question at all": (2, ["search"]),
    "no key": (2, ["search", QUESTION, "-i", "{library}", "-m", "gpt"]),
    "a server beyond this machine": (
        2,
        ["search", QUESTION, "-i", "{library}", "-m", "x", "--base-url", "https://example.org/v1", "--offline"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_clear_line(name: str, call: Call, library: Path, corpus: Path, tmp_path: Path) -> None:
    """Whatever is wrong, it is said in a line, with the exit code of its kind and no traceback, as text and as JSON."""
    code, template = BAD[name]
    words = [word.format(tmp=tmp_path, library=library, corpus=corpus) for word in template]
    said = call(*words)
    assert said.code == code, said.err
    _, _, error = said.err.rpartition("Error: ")
    assert said.err.count("Error: ") == 1
    assert 1 <= len(error.splitlines()) <= 2, "a line and a hint"
    assert "Traceback" not in said.err
    told = call(*words, "--json")
    assert told.code == code
    assert told.json()["error"]["exit"] == code
    assert told.json()["error"]["message"]


@pytest.mark.parametrize("how", ["version", "truncated"])
def test_an_index_that_cannot_be_read_is_named(how: str, call: Call, library: Path, tmp_path: Path) -> None:
    """Another format version or a truncated file ends with 3 and the name of the file, and changes nothing."""
    copy = broken(library, tmp_path, how)
    ran = call("ask", QUESTION, "-i", copy)
    assert ran.code == 3
    assert ("manifest.json" if how == "version" else "vectors.npy") in ran.err
    assert call("tree", "check", "-i", copy).code == 3
    assert call("doctor", "-i", copy).code == 3


def test_a_bug_is_not_dressed_up(call: Call, monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    """An internal error ends with 1, one line and no traceback, unless --debug asks for it."""

    def explode(*_: object, **__: object) -> None:
        raise TypeError("unexpected")

    monkeypatch.setattr("branchwise.agent.surfaces.tree_view.draw_tree", explode)
    ran = call("tree", "show", "-i", library)
    assert ran.code == 1
    assert "TypeError: unexpected" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in call("tree", "show", "-i", library, "--debug").err


def test_bad_files_are_listed_and_skipped(built: Ran) -> None:
    """A binary file and a malformed line are named with their place; everything else is in the index."""
    report = built.json()
    skipped = {Path(one["where"]).name: one["why"] for one in report["skipped"]}
    assert set(skipped) == {"noise.txt", "lines.jsonl:2"}
    assert report["counts"]["documents"] == 13
    assert "noise.txt" in built.err


def test_search_gives_the_promised_object(library: Path) -> None:
    """`search --json`, as a process: the shape of the contract on stdout, and not a byte beside it."""
    ran = branchwise("search", QUESTION, "-k", "3", "--index", library, "--json")
    assert ran.code == 0, ran.err
    found = ran.json()
    assert found["query"] == QUESTION
    assert found["stopped"] in ("decided", "budget", "exhausted")
    assert found["judge"] == "embedded"
    assert not found["partial"]
    assert found["usage"].keys() >= {"calls", "input_tokens", "cached_tokens", "output_tokens", "seconds", "cost"}
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    best = found["hits"][0]
    assert best.keys() >= {"rank", "passage_id", "doc_id", "title", "text", "score", "path", "reason"}
    assert best["doc_id"] == "ice.txt"
    assert best["path"][0]["node_id"] == "n:root"
    assert all(step.keys() == {"node_id", "title", "local", "calibrated", "path"} for step in best["path"])


def test_the_first_line_says_that_no_model_was_used(call: Call, library: Path) -> None:
    """Search and answer begin by saying who judged; the answer's citation names document and characters."""
    assert call("search", QUESTION, "-i", library).out.startswith("No LLM was used")
    answer = call("ask", QUESTION, "-i", library)
    assert answer.out.startswith("No LLM was used")
    assert "ice.txt, characters " in answer.out


def test_an_answer_quotes_the_stored_text(call: Call, library: Path, corpus: Path) -> None:
    """`ask --json`: every citation is the document's own characters."""
    answer = call("ask", QUESTION, "-i", library, "--json").json()
    assert answer["found"]
    for citation in answer["citations"]:
        text = (corpus / citation["doc_id"]).read_text("utf-8")
        assert text[citation["start"] : citation["end"]] == citation["quote"]


def test_nothing_found_is_no_failure(call: Call, library: Path) -> None:
    """A question that nothing answers ends with 0 and found: false."""
    ran = call("ask", "zzyzx quuxly vortigern?", "-i", library, "--json")
    assert ran.code == 0
    assert ran.json()["found"] is False


def test_exclusions_and_filters_hold(call: Call, library: Path) -> None:
    """An excluded document is in no hit; a filter that nothing passes leaves nothing."""
    hits = call("search", QUESTION, "-i", library, "--exclude", "ice.txt", "--json").json()["hits"]
    assert hits
    assert all(hit["doc_id"] != "ice.txt" for hit in hits)
    none = call("search", QUESTION, "-i", library, "--filter", "colour=red", "--json").json()
    assert none["hits"] == []
    assert not none["found"]


def test_a_budget_of_nothing_still_ranks(call: Call, library: Path) -> None:
    """--max-calls 0 gives what BM25 and vectors say, marked as partial."""
    found = call("search", QUESTION, "-i", library, "--max-calls", "0", "--json").json()
    assert found["partial"]
    assert found["stopped"] == "budget"
    assert found["hits"][0]["doc_id"] == "ice.txt"


def test_an_unchanged_build_does_nothing(call: Call, library: Path, corpus: Path, tmp_path: Path) -> None:
    """The same command again says that there is nothing to do; documents come and go by add and remove."""
    copy = tmp_path / "index"
    shutil.copytree(library, copy)
    assert call("build", corpus, "--index", copy, "--max-children", "4", "--json").json()["unchanged"]
    more = tmp_path / "geysers.txt"
    more.write_text("A geyser is a spring whose water boils in a narrow pipe and throws itself out.", "utf-8")
    refused = call("add", more, "-i", copy, "--place", "guess")
    assert (refused.code, "'guess'" in refused.err) == (2, True)
    added = call("add", more, "-i", copy, "--place", "search", "--json").json()
    assert (added["counts"]["documents"], added["usage"]["calls"], added["notes"]) == (14, 0, [])
    ids = [hit["doc_id"] for hit in call("search", "geyser", "-i", copy, "--json").json()["hits"]]
    assert ids[0] == "geysers.txt"
    assert call("remove", "geysers.txt", "-i", copy, "--json").json()["counts"]["documents"] == 13
    ids = [hit["doc_id"] for hit in call("search", "geyser", "-i", copy, "--json").json()["hits"]]
    assert "geysers.txt" not in ids


def test_a_build_in_the_place_of_another_index_says_so(call: Call, library: Path, tmp_path: Path) -> None:
    """What is about to be replaced is named, with the command that adds instead; the same sources again say nothing."""
    copy, other = tmp_path / "index", tmp_path / "geysers.txt"
    shutil.copytree(library, copy)
    other.write_text("A geyser is a spring whose water boils in a narrow pipe and throws itself out.", "utf-8")
    told = call("build", other, "-i", copy)
    assert told.code == 0
    assert "takes the place" in told.err
    assert "branchwise add" in told.err
    assert "takes the place" not in call("build", other, "-i", copy, "--max-children", "5").err


def test_backup_restore_repair_and_reembed(call: Call, library: Path, tmp_path: Path) -> None:
    """A backup brings the index back elsewhere; what is derived can be made anew; the answers stay the same."""
    before = call("search", QUESTION, "-i", library, "--json").json()["hits"]
    file, copy = tmp_path / "books.zip", tmp_path / "copy"
    assert call("backup", "-i", library, "-o", file).code == 0
    assert call("restore", file, "-i", copy).code == 0
    assert call("restore", file, "-i", copy).code == 2, "nobody is here to say that it may be replaced"
    assert call("repair", "-i", copy, "--json").json()["nodes"] > 13
    assert call("reembed", "-i", copy, "--json").json()["embedder"] == "embedded"
    assert call("tree", "check", "-i", copy).code == 0
    after = call("search", QUESTION, "-i", copy, "--json").json()["hits"]
    assert [hit["passage_id"] for hit in after] == [hit["passage_id"] for hit in before]


def test_the_tree_is_shown_measured_and_exported(call: Call, library: Path, tmp_path: Path) -> None:
    """show, stats, check and export work and agree on the number of passages."""
    assert "13 passages" in call("tree", "show", "-i", library).out
    shown = call("tree", "show", "-i", library, "--depth", "9", "--json").json()
    assert sum(node["passage_id"] is not None for node in shown["nodes"]) == 13
    assert call("tree", "stats", "-i", library, "--json").json()["leaves"] == 13
    assert "balance" in call("tree", "stats", "-i", library).out
    assert call("tree", "check", "-i", library, "--json").json()["sound"]
    for ending in ("json", "graphml", "html"):
        assert call("tree", "export", "-i", library, "-o", tmp_path / f"t.{ending}", "--json").json()["bytes"] > 1_000


def test_a_search_leaves_a_trace_and_a_picture(call: Call, library: Path, tmp_path: Path) -> None:
    """--trace keeps the events, --stream tells them on stderr, `trace` draws them with the relevant passages."""
    file = tmp_path / "steps.jsonl"
    ran = call("search", QUESTION, "-i", library, "--trace", file, "--stream", "--json")
    assert ran.json()["hits"]
    assert "stopped:" in ran.err
    kinds = [json.loads(line)["kind"] for line in file.read_text("utf-8").splitlines()]
    assert kinds[0] == "question"
    drawn = call("trace", file, "-i", library, "--gold", "ice.txt", "--json").json()
    assert drawn["gold"] == ["ice.txt"]
    assert "★" in Path(drawn["path"]).read_text("utf-8")
    stranger = call("trace", file, "-i", library, "--gold", "nobody", "--json")
    assert stranger.code == 2
    assert "nobody" in stranger.json()["error"]["message"]
    assert call("ask", QUESTION, "-i", library, "--trace", tmp_path / "picture.html").code == 0
    assert (tmp_path / "picture.html").read_text("utf-8").startswith("<!doctype html>")


def test_doctor_finds_all_well(call: Call, library: Path) -> None:
    """The doctor checks machine and index, and shows no key."""
    checks = {check["name"]: check for check in call("doctor", "-i", library, "--json").json()["checks"]}
    assert checks["index"]["status"] == "ok"
    assert "13 documents" in checks["index"]["detail"]
    assert checks["packages"]["status"] == "ok"


def test_settings_come_from_the_folder(library: Path, tmp_path: Path) -> None:
    """branchwise.toml in the working folder names the index; a key that is no setting is refused by name."""
    file = tmp_path / "branchwise.toml"
    file.write_text(f"index = {json.dumps(str(library))}\nk = 2\n", "utf-8")
    ran = branchwise("search", QUESTION, "--json", cwd=tmp_path)
    assert len(ran.json()["hits"]) == 2
    file.write_text("indx = 'a'\n", "utf-8")
    refused = branchwise("search", QUESTION, cwd=tmp_path)
    assert refused.code == 2
    assert "indx" in refused.err


def test_a_reader_that_leaves_early_is_no_error(library: Path) -> None:
    """`branchwise ... | head` ends quietly."""
    command = [sys.executable, "-c", ENTRY, "tree", "show", "-i", str(library), "--depth", "9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read().decode()
        process.wait(60)
    assert "Traceback" not in err
    assert "Error" not in err


def test_help_imports_nothing_heavy() -> None:
    """The commands are known without loading what they need: help comes at once."""
    heavy = {"chromadb", "numpy", "sklearn", "openai", "networkx", "pydantic", "llama_index"}
    code = f"import sys, branchwise.agent.surfaces.cli; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.strip() == "[]"


def test_chat_takes_questions_from_a_pipe(library: Path) -> None:
    """chat --json answers each line of stdin, in the light of those before, and gives one object."""
    ran = branchwise("chat", "-i", library, "--json", stdin=f"{QUESTION}\nAnd why do fish survive it?\n")
    turns = ran.json()["turns"]
    assert [turn["asked"] for turn in turns] == [QUESTION, "And why do fish survive it?"]
    assert all(turn["search"]["hits"] for turn in turns)


def test_what_a_terminal_cannot_show_is_no_error(library: Path) -> None:
    """In a locale without Unicode nothing fails: text is replaced, JSON is escaped and stays whole."""
    shown = branchwise("tree", "show", "-i", library, PYTHONIOENCODING="ascii")
    assert shown.code == 0, shown.err
    asked = branchwise("search", "Ebbe und Flut — ½?", "-i", library, "--json", PYTHONIOENCODING="ascii")
    assert asked.json()["query"] == "Ebbe und Flut — ½?"


def test_an_answer_is_told_while_it_happens(call: Call, library: Path) -> None:
    """`ask --stream` says the answer once, piece by piece, and the steps on stderr."""
    whole = call("ask", QUESTION, "-i", library, "--json").json()["text"]
    ran = call("ask", QUESTION, "-i", library, "--stream")
    assert " ".join(ran.out.split()).count(" ".join(whole.split())) == 1
    assert "stopped:" in ran.err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_serve_says_where_and_ends_on_ctrl_c(library: Path) -> None:
    """`serve --json` gives one object with the address, answers there, and ends quietly."""
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-c", ENTRY, "serve", "-i", f"books={library}", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as server:
        assert server.stdout is not None
        said = b""
        while not said.endswith(b"}\n}\n"):
            line = server.stdout.readline()
            assert line, server.stderr and server.stderr.read().decode()
            said += line
        told = json.loads(said)
        assert told["indexes"] == {"books": str(library)}
        with urllib.request.urlopen(f"{told['url']}/healthz", timeout=30) as reply:
            assert reply.status == 200
        server.send_signal(signal.SIGINT)
        more, err = server.communicate(timeout=60)
    assert server.returncode in (0, 130)
    assert more == b""
    assert b"Traceback" not in err


def test_mcp_leaves_stdout_to_the_protocol(library: Path) -> None:
    """`mcp` speaks JSON-RPC on stdout and nothing else, and ends with its input."""
    pytest.importorskip("mcp")
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
    }
    ran = branchwise("mcp", "-i", library, stdin=json.dumps(hello) + "\n")
    assert ran.code == 0, ran.err
    assert [json.loads(line)["id"] for line in ran.out.splitlines()] == [1]
    assert "No LLM was used" in ran.err


def test_the_engine_is_named_and_must_be_there(
    call: Call, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--engine ray without its extra is the user's to mend, before anything is read; another name is no engine."""
    monkeypatch.setitem(sys.modules, "ray", None)
    for flags in ([], ["--dry-run"]):
        ran = call("build", corpus, "-i", tmp_path / "index", "--engine", "ray", *flags)
        assert ran.code == 2
        assert "branchwise[ray]" in ran.err
    assert "--engine" in call("build", corpus, "-i", tmp_path / "index", "--engine", "steam").err
    dry = call("build", corpus, "-i", tmp_path / "index", "--engine", "local", "--dry-run", "--json")
    assert dry.json()["engine"] == "local"
    assert not (tmp_path / "index").exists()


@pytest.mark.ray
@pytest.mark.skipif(find_spec("ray") is None, reason="the [ray] extra is not installed")
def test_a_build_on_ray_is_the_local_one(tmp_path: Path) -> None:
    """The command with --engine ray says so and gives the very tree of the command without it."""
    lines = [json.dumps({"_id": str(n), "text": f"Case {n}: {word} beside {n * n}."}) for n, word in many_words(2_500)]
    (tmp_path / "many.jsonl").write_text("\n".join(lines), "utf-8")
    trees = []
    for engine in ("local", "ray"):
        index = tmp_path / engine
        ran = branchwise("build", tmp_path / "many.jsonl", "-i", index, "--engine", engine)
        assert ran.code == 0, ran.err
        assert ("on Ray" in ran.out) == (engine == "ray")
        trees.append(branchwise("tree", "show", "-i", index, "--depth", "9", "--json").json())
    assert trees[0] == trees[1]


def many_words(count: int) -> list[tuple[int, str]]:
    """Numbers, each with one of the words of TEXTS."""
    words = sorted({word for text in TEXTS.values() for word in text.split()})
    return [(n, f"{words[n % len(words)]} and {words[n * 7 % len(words)]}") for n in range(count)]
