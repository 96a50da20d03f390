"""What the doctor finds out about servers of several kinds, and what it saves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from branchwise.prompts.ask import Asker
from branchwise.prompts.doctor import probe
from branchwise.prompts.openai_chat import DEFAULT_WINDOW, OpenAIChat, open_model
from branchwise.prompts.profile import Profile, load_profile, profile_path, save_profile
from tests.loopback.faults import always
from tests.loopback.server import LoopbackServer, run_server


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for profiles that is not the user's."""
    monkeypatch.setenv("BRANCHWISE_PROFILES", str(tmp_path))
    return tmp_path


async def found_at(server: LoopbackServer, model: str = "stand-in") -> dict[str, tuple[str, str]]:
    """Status and detail of each finding."""
    asker = Asker(open_model(model, server.base_url))
    findings = {found.name: (found.status, found.detail) for found in await probe(asker)}
    await asker.aclose()
    return findings


async def test_a_full_server_is_all_right_and_its_profile_is_used() -> None:
    """Window, schema, probabilities, cache, embeddings and speed are found; the next opening begins with them."""
    with run_server(context_window=8_192) as server:
        findings = await found_at(server)
        assert {status for status, _ in findings.values()} == {"ok"}
        assert list(findings) == [
            "server", "reply", "schema", "logprobs", "cache", "window", "embeddings", "speed", "profile",
        ]  # fmt: skip
        assert "8,192" in findings["window"][1]
        model = open_model("stand-in", server.base_url)
        assert model.context_window == 8_192
        assert Asker(model).gate.limits.concurrency in (1, 4, 8, 16)
        assert open_model("stand-in", server.base_url, context_window=4_096).context_window == 4_096


async def test_a_poor_server_is_described_and_still_usable() -> None:
    """No schemas, no listing of windows: what is used instead is said, and the window is read from an error."""
    with run_server(context_window=3_000, structures=(), declares=False) as server:
        findings = await found_at(server)
        assert findings["schema"] == ("note", "JSON schemas are not supported; text is used")
        assert findings["window"] == ("warning", "3,000 tokens, as its error message says")
        model = open_model("stand-in", server.base_url)
        assert isinstance(model, OpenAIChat)
        assert model.dialect.structure == "text"


async def test_a_window_that_is_cut_silently_is_measured() -> None:
    """A server that drops the beginning of a long prompt without a word gives itself away by its token count."""
    with run_server(context_window=5_000, declares=False, truncates=True) as server:
        status, detail = (await found_at(server))["window"]
        assert (status, detail) == ("ok", "4,096 tokens, measured")


async def test_a_model_that_is_not_there_is_a_fault_with_the_names_that_are() -> None:
    """The listing names what is served; no profile is saved."""
    with run_server() as server:
        asker = Asker(open_model("other", server.base_url))
        findings = await probe(asker)
        await asker.aclose()
    assert [(found.name, found.status) for found in findings] == [("server", "warning"), ("reply", "fault")]
    assert "stand-in" in findings[0].hint
    assert load_profile("other", server.base_url) is None


async def test_no_server_is_one_fault() -> None:
    """Nothing else is tried."""
    asker = Asker(open_model("any", "http://127.0.0.1:9/v1"))
    findings = await probe(asker)
    assert [(found.name, found.status) for found in findings] == [("server", "fault")]
    await asker.aclose()


async def test_another_model_that_answers_is_named() -> None:
    """A gateway that serves something else than it was asked for."""
    with run_server(fault_for=always("other_model")) as server:
        assert (await found_at(server))["reply"][0] == "warning"


@pytest.mark.parametrize("fault", ["status_500", "html_with_200", "status_401", "reset", "garbage"])
async def test_a_failing_server_never_breaks_the_doctor(fault: str) -> None:
    """Every fault ends as a finding."""
    with run_server(fault_for=always(fault)) as server:
        findings = await found_at(server)
    assert findings["reply"][0] == ("ok" if fault == "garbage" else "fault")


def test_a_profile_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    """Also with names that are no file names; without anything that looks like a key."""
    profile = Profile(model="org/Müller:7b", endpoint="http://127.0.0.1:1/v1", context_window=4_096, concurrency=4)
    path = save_profile(profile)
    assert path.parent == tmp_path
    assert load_profile(profile.model, profile.endpoint) == profile
    assert load_profile(profile.model, "http://127.0.0.1:2/v1") is None
    elsewhere = save_profile(profile, tmp_path / "mine" / "p.json")
    assert json.loads(elsewhere.read_text(encoding="utf-8"))["context_window"] == 4_096


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model": 1}', '{"model": "m", "endpoint": "e", "extra": 1}'])
def test_a_damaged_profile_is_ignored(text: str) -> None:
    """A profile helps, and is never needed."""
    path = profile_path("m", "http://127.0.0.1:1/v1")
    path.write_text(text, encoding="utf-8")
    load_profile("m", "http://127.0.0.1:1/v1")
    assert open_model("m", "http://127.0.0.1:1/v1").context_window == DEFAULT_WINDOW
