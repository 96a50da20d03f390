"""What `import branchwise` offers: build an index, open one, ask it.

    import branchwise

    docs = branchwise.build("docs/", index="docs-index")
    for hit in docs.search("why do moths circle lamps?").hits:
        print(hit.score, hit.passage.title)
    print(docs.ask("why do moths circle lamps?").text)

Every call has an asynchronous twin (`asearch`, `aask`, ...). Importing this costs no network, no log handler, no
configuration and little time: what is heavy is imported by the first call that needs it. Tested in
tests/agent/test_facade.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from branchwise.agent.sync import iterate, run
from branchwise.stores.errors import (
    BranchwiseError,
    BudgetSpent,
    IndexCorrupt,
    IndexLocked,
    IndexMismatch,
    IndexMissing,
    InputError,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    ReplyInvalid,
    StoreError,
)
from branchwise.stores.records import (
    Answer,
    Budget,
    Citation,
    Document,
    Event,
    Hit,
    Judgement,
    Passage,
    Question,
    SearchResult,
    Step,
    TreeNode,
    Turn,
    Usage,
)

if TYPE_CHECKING:
    from branchwise.agent.chat import Chat
    from branchwise.agent.engine import Engine
    from branchwise.agent.search.config import SearchConfig
    from branchwise.prompts.ask import Asker
    from branchwise.prompts.budget import Meter
    from branchwise.stores.index import Index
    from branchwise.stores.tree import SemanticTree
    from branchwise.tree_builder.build import BuildReport

__all__ = [
    "Answer",
    "BranchwiseError",
    "Budget",
    "BudgetSpent",
    "Citation",
    "Collection",
    "Document",
    "Event",
    "Hit",
    "IndexCorrupt",
    "IndexLocked",
    "IndexMismatch",
    "IndexMissing",
    "InputError",
    "Judgement",
    "ModelError",
    "ModelRefused",
    "ModelUnavailable",
    "Passage",
    "Question",
    "ReplyInvalid",
    "SearchResult",
    "Step",
    "StoreError",
    "TreeNode",
    "Turn",
    "Usage",
    "abuild",
    "build",
    "open",
]

Sources = str | Path | Iterable[str | Path] | Iterable[Document]
OnEvent = Callable[[Event], None]
Place = Literal["vectors", "search"]
"""How the place of a new document in the tree is found."""


def build(sources: Sources, *, index: str | Path, **options: Any) -> Collection:
    """Build an index of files, folders or documents, and open it. See `abuild` for the options."""
    return run(abuild(sources, index=index, **options))


async def abuild(
    sources: Sources,
    *,
    index: str | Path,
    model: str | None = None,
    base_url: str | None = None,
    prompts: str | Path | None = None,
    chroma_url: str | None = None,
    budget: Budget | None = None,
    on_event: OnEvent | None = None,
    search: SearchConfig | None = None,
    **config: Any,
) -> Collection:
    """Build an index of `sources` at the folder `index`, and open it.

    `sources` are paths (files, folders, a BEIR folder) or Document records. Without `model` nothing is spent and
    nothing is downloaded; with one, `budget` limits what summaries may cost, and what could not be paid for is written
    by the embedded summariser. `chroma_url` keeps the vectors in a `chroma run` server. `config` are the fields of
    tree_builder.config.BuildConfig (`tree`, `max_children`, `embedder`, `engine`, ...). Raises InputError where nothing
    can be read, IndexLocked while another process writes there.
    """
    from branchwise.prompts.budget import Meter
    from branchwise.tree_builder.build import build as build_index
    from branchwise.tree_builder.config import BuildConfig

    asker = open_asker(model, base_url, prompts=prompts, index_path=Path(index))
    report = await build_index(
        _listed(sources),
        index,
        BuildConfig(**config),
        asker=asker,
        base_url=base_url,
        chroma_url=chroma_url,
        meter=Meter(budget),
        on_event=on_event,
    )
    built = _open_index(index, chroma_url=chroma_url)
    return Collection(built, asker=asker, search=search, report=report, chroma_url=chroma_url)


def open(
    path: str | Path,
    *,
    model: str | None = None,
    base_url: str | None = None,
    prompts: str | Path | None = None,
    chroma_url: str | None = None,
    search: SearchConfig | None = None,
) -> Collection:
    """Open the index at `path`. With `model`, that model judges, rewrites and reads; without, nothing is spent.

    `base_url` is any OpenAI-compatible server (default: OPENAI_BASE_URL, else OpenAI); the key is OPENAI_API_KEY.
    Raises IndexMissing, IndexMismatch or IndexCorrupt.
    """
    index = _open_index(path, chroma_url=chroma_url)
    asker = open_asker(model, base_url, prompts=prompts, index_path=index.path)
    return Collection(index, asker=asker, search=search, chroma_url=chroma_url)


def open_asker(
    model: str | None,
    base_url: str | None,
    *,
    prompts: str | Path | None = None,
    index_path: Path,
) -> Asker | None:
    """The model with cache, retries and limits around it; None where none is named. Opens no connection."""
    if model is None:
        return None
    from branchwise.prompts.ask import Asker
    from branchwise.prompts.library import PromptLibrary
    from branchwise.prompts.openai_chat import open_model
    from branchwise.stores.replies import ReplyStore

    index_path.mkdir(parents=True, exist_ok=True)
    library = PromptLibrary(Path(prompts)) if prompts is not None else None
    return Asker(open_model(model, base_url), library=library, cache=ReplyStore(index_path / "replies.sqlite"))


async def add_to(
    engine: Engine,
    sources: Any,
    *,
    place: str = "vectors",
    chroma_url: str | None = None,
    meter: Meter,
    on_event: OnEvent | None = None,
) -> BuildReport:
    """Add documents to the index of `engine`, placed as Collection.add says. The engine stays on its generation."""
    from branchwise.agent.place import Placer
    from branchwise.tree_builder.update import add

    if place not in get_args(Place):
        raise InputError(f"Documents cannot be placed by {place!r}.", hint="Choose vectors or search.")
    placer = Placer(engine, meter=meter) if place == "search" else None
    report = await add(
        engine.index.path,
        sources,
        asker=engine.asker,
        locate=placer,
        chroma_url=chroma_url,
        meter=meter,
        on_event=on_event,
    )
    return replace(report, notes=report.notes + placer.notes) if placer else report


class Collection:
    """An index that is open for questions. Safe to use from many threads and tasks at once."""

    def __init__(
        self,
        index: Index,
        *,
        asker: Asker | None = None,
        search: SearchConfig | None = None,
        report: BuildReport | None = None,
        chroma_url: str | None = None,
    ) -> None:
        """`report` tells what the build did that made this collection, if one did; `chroma_url` is the index's."""
        from branchwise.agent.engine import Engine

        self._chroma_url = chroma_url
        self.engine: Engine = Engine(index, asker=asker, config=search)
        self.report = report

    @property
    def index(self) -> Index:
        """What is stored: documents, passages, vectors, manifest."""
        return self.engine.index

    @property
    def tree(self) -> SemanticTree:
        """The semantic tree."""
        return self.index.tree

    @property
    def judge(self) -> str:
        """Who judges: "embedded" or a model's name."""
        return self.engine.judge_name

    def search(
        self, question: str | Question, *, k: int = 10, budget: Budget | None = None, hops: bool = False
    ) -> SearchResult:
        """The best `k` passages with the path to each; within `budget`, else until it is decided.

        With `hops`, sub-questions are searched too, and then what the first passages name: for questions whose answer
        stands in no one place. It costs several searches, and blurs questions that need only one.
        """
        return run(self.asearch(question, k=k, budget=budget, hops=hops))

    async def asearch(
        self, question: str | Question, *, k: int = 10, budget: Budget | None = None, hops: bool = False
    ) -> SearchResult:
        """See `search`."""
        if not hops:
            return await self.engine.search(question, k=k, budget=budget)
        from branchwise.agent.engine import check_question
        from branchwise.agent.multihop import search_in_hops

        return await search_in_hops(self.engine, check_question(question, k), k=k, budget=budget)

    def ask(self, question: str | Question, *, k: int = 10, budget: Budget | None = None) -> Answer:
        """An answer whose every citation was found in the stored text; `found` is False where nothing supports one."""
        return run(self.aask(question, k=k, budget=budget))

    async def aask(self, question: str | Question, *, k: int = 10, budget: Budget | None = None) -> Answer:
        """See `ask`."""
        return await self.engine.ask(question, k=k, budget=budget)

    def stream(
        self, question: str | Question, *, k: int = 10, budget: Budget | None = None, answer: bool = True
    ) -> Iterator[Event | SearchResult | Answer]:
        """Every step as it happens, the answer's text piece by piece, and the result itself at the end."""
        return iterate(self.astream(question, k=k, budget=budget, answer=answer))

    def astream(
        self, question: str | Question, *, k: int = 10, budget: Budget | None = None, answer: bool = True
    ) -> AsyncIterator[Event | SearchResult | Answer]:
        """See `stream`."""
        return self.engine.stream(question, k=k, budget=budget, answer=answer)

    def chat(self, *, k: int = 10, budget: Budget | None = None) -> Chat:
        """A conversation, in which a question may point back to what was said; `budget` is for each question."""
        from branchwise.agent.chat import Chat

        return Chat(engine=self.engine, k=k, budget=budget or Budget())

    def trace(self, question: str | Question, *, k: int = 10, budget: Budget | None = None) -> list[Event]:
        """All steps of a search: what agent.search.trace writes, draws and replays."""
        events: list[Event] = []
        run(self.engine.search(question, k=k, budget=budget, on_event=events.append))
        return events

    def replay(self, trace: Sequence[Event]) -> SearchResult:
        """The search of a trace once more, with no model and no cost."""
        return run(self.engine.replay(trace))

    def add(
        self,
        sources: Sources,
        *,
        place: Place = "vectors",
        budget: Budget | None = None,
        on_event: OnEvent | None = None,
    ) -> BuildReport:
        """Add documents, or replace those that are there by the same id; only what they touch is summarised anew.

        `place` "vectors" puts a document beside what its vector is nearest to, and costs nothing; "search" lets each
        walk down the tree before the judge of this collection, about one call a level, on half of `budget` at most.
        """
        return run(self.aadd(sources, place=place, budget=budget, on_event=on_event))

    async def aadd(
        self,
        sources: Sources,
        *,
        place: Place = "vectors",
        budget: Budget | None = None,
        on_event: OnEvent | None = None,
    ) -> BuildReport:
        """See `add`."""
        from branchwise.prompts.budget import Meter

        url, meter = self._chroma_url, Meter(budget)
        report = await add_to(
            self.engine, _listed(sources), place=place, chroma_url=url, meter=meter, on_event=on_event
        )
        self.refresh()
        return report

    def remove(
        self, doc_ids: str | Iterable[str], *, budget: Budget | None = None, on_event: OnEvent | None = None
    ) -> BuildReport:
        """Remove documents: afterwards no text of them is left in store, summaries or reply cache."""
        return run(self.aremove(doc_ids, budget=budget, on_event=on_event))

    async def aremove(
        self, doc_ids: str | Iterable[str], *, budget: Budget | None = None, on_event: OnEvent | None = None
    ) -> BuildReport:
        """See `remove`."""
        from branchwise.prompts.budget import Meter
        from branchwise.tree_builder.update import remove

        ids = [doc_ids] if isinstance(doc_ids, str) else list(doc_ids)
        report = await remove(
            self.index.path,
            ids,
            asker=self.engine.asker,
            chroma_url=self._chroma_url,
            meter=Meter(budget),
            on_event=on_event,
        )
        self.refresh()
        return report

    def refresh(self) -> bool:
        """Go over to the newest generation, if there is one; searches under way finish on the old one."""
        newest = _open_index(self.index.path, chroma_url=self._chroma_url)
        if newest.manifest.generation == self.index.manifest.generation:
            newest.close()
            return False
        self.engine = self.engine.over(newest)
        return True

    def close(self) -> None:
        """Let go of the files."""
        self.engine.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        leaves = len(self.tree.leaf_ids)
        return f"<branchwise.Collection {str(self.index.path)!r}: {leaves:,} passages, judge: {self.judge}>"


def _open_index(path: str | Path, *, chroma_url: str | None = None) -> Index:
    from branchwise.stores.index import Index

    return Index.open(path, chroma_url=chroma_url)


def _listed(sources: Sources) -> Any:
    if isinstance(sources, str | Path):
        return [Path(sources)]
    return [Path(item) if isinstance(item, str) else item for item in sources]
