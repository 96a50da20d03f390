"""Addresses, keys, offline, redaction."""

from __future__ import annotations

import pytest

from branchwise.prompts.endpoint import find_endpoint
from branchwise.prompts.openai_chat import open_model
from branchwise.stores.errors import InputError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "BRANCHWISE_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def test_a_key_is_asked_for_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI wants one; a local server, or one that was named, does not."""
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        open_model("some-model")
    assert find_endpoint("http://127.0.0.1:8000/v1").key == ""
    assert find_endpoint("https://models.example.com/v1").key == ""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-123456")
    assert find_endpoint(None).key == "sk-test-123456"


def test_the_environment_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_BASE_URL, unless a base URL is given."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1/")
    assert find_endpoint(None).url == "http://127.0.0.1:11434/v1"
    assert find_endpoint("http://127.0.0.1:9/v1").url == "http://127.0.0.1:9/v1"


def test_secrets_in_a_url_are_never_shown() -> None:
    """User name and password leave the URL; the password becomes the key."""
    endpoint = find_endpoint("https://me:hunter22@models.example.com:8443/v1")
    assert endpoint.url == "https://models.example.com:8443/v1"
    assert endpoint.key == "hunter22"
    assert "hunter22" not in repr(endpoint)
    assert endpoint.redact("wrong key hunter22, or sk-abcdef123456, or Bearer abc.def") == (
        "wrong key [key], or [key], or Bearer [key]"
    )


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a/v1", "http://", "models", "file:///etc/passwd"])
def test_a_malformed_address_is_the_users_error(url: str) -> None:
    """With an example of a right one."""
    with pytest.raises(InputError, match="not the address"):
        find_endpoint(url)


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_refuses_every_other_machine(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Before a connection is made; this machine stays allowed."""
    monkeypatch.setenv("BRANCHWISE_OFFLINE", value)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    for url in (None, "https://models.example.com/v1", "http://10.0.0.1/v1", "http://127.0.0.1.example.com/v1"):
        with pytest.raises(InputError, match="offline"):
            open_model("m", url)
    assert open_model("m", "http://127.0.0.1:8000/v1").endpoint == "http://127.0.0.1:8000/v1"


def test_a_model_without_a_name_is_refused() -> None:
    """An empty --model is not the default model of anybody."""
    with pytest.raises(InputError, match="No model"):
        open_model(" ", "http://127.0.0.1:8000/v1")
