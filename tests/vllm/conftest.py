"""One tiny model on disk and one vLLM server for the whole session: starting takes half a minute and 2.9 GB."""

from __future__ import annotations

import asyncio
import os
import runpy
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from branchwise.prompts.vllm_chat import VllmChat

# Before vLLM is imported anywhere: one gigabyte of KV cache is plenty here, and nothing may be fetched or reported.
os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_CPU_KVCACHE_SPACE="1")
START_SECONDS = 300


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a randomly initialised model; skips outside the vLLM environment."""
    pytest.importorskip("vllm", reason="vLLM is not installed here; run .ci/vllm")
    make = runpy.run_path(str(Path(__file__).with_name("tiny_model.py")))["make_tiny_model"]
    return Path(make(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> Iterator[VllmChat]:
    """The tiny model in this process; one engine for the session."""
    chat = VllmChat(tiny_model)
    yield chat
    asyncio.run(chat.aclose())


@pytest.fixture(scope="session")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a real vLLM server on the loopback interface, serving the tiny model as "tiny"."""
    log = tmp_path_factory.mktemp("server") / "vllm.log"
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(tiny_model), "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--max-num-seqs", "8", "--enforce-eager", "--enable-prompt-tokens-details"]
    command += ["--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}']
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            wait_until_healthy(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return once the server answers; fail with the end of its log where it exits or never does."""
    for _ in range(START_SECONDS * 2):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None:
                break
            time.sleep(0.5)
    pytest.fail(f"vLLM did not start:\n{log.read_text(encoding='utf-8')[-3000:]}")
