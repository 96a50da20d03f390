"""What a build with a model will cost, before it costs anything: no network, no vectors, no model.

Expected figures come from the sizes that clustering aims at; upper bounds are also the limits that the build itself
keeps (build passes them to its meter), so they are never passed: where reality were worse, the embedded summariser
writes the rest. Tested in tests/tree_builder/test_estimate.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from branchwise.prompts.tokens import estimate_tokens
from branchwise.stores.records import Budget, Passage
from branchwise.tree_builder.bottom_up import document_runs, even_sizes
from branchwise.tree_builder.cluster import Sizes
from branchwise.tree_builder.config import BuildConfig, TreeKind
from branchwise.tree_builder.corpus import Sources, corpus_aside, group_of, passage_text
from branchwise.tree_builder.events import EventStream, OnEvent
from branchwise.tree_builder.model_summariser import BATCH, CHILD_TOKENS, LEVELS_TOKENS, PART_TOKENS, REPLY_TOKENS
from branchwise.tree_builder.shape import choose_kind
from branchwise.tree_builder.summarise import LONGEST_TEXT

if TYPE_CHECKING:
    from branchwise.prompts.ask import Asker

PROMPT_TOKENS = 450
"""Instructions of the longest of the three prompts, with the tags around their items."""
SECONDS_A_CALL = (1.5, 15.0)
"""A fast server with a short reply, a slow one with a long one; divided by the calls in flight."""
SLACK = 2.0
"""Second askings, retries and uneven clusters at most double the calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """An expected figure and one that is not passed."""

    expected: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a build will read, ask and spend. `cost` is None where the model's price is unknown, which is not free."""

    tree: TreeKind
    documents: int
    passages: int
    nodes: int
    calls: Range
    input_tokens: Range
    output_tokens: Range
    minutes: Range
    cost: Range | None
    currency: str = "USD"

    @property
    def limit(self) -> Budget:
        """The upper bounds as a budget, with which the build keeps its word."""
        tokens = int(self.input_tokens.most + self.output_tokens.most)
        return Budget(max_calls=int(self.calls.most), max_tokens=tokens)


def estimate(
    sources: Sources,
    config: BuildConfig | None = None,
    *,
    asker: Asker | None = None,
    on_event: OnEvent | None = None,
) -> Estimate:
    """What building an index of `sources` will cost; reads them, and asks nobody. Raises InputError as build does."""
    config = config or BuildConfig()
    with corpus_aside(sources, config, EventStream(on_event)) as corpus:
        found = estimate_passages(corpus.passages, config, asker)
        copies = sum(len(passage.duplicates) for passage in corpus.passages)
        return replace(found, documents=len(corpus.documents), passages=len(corpus.passages) + copies)


def estimate_passages(passages: Sequence[Passage], config: BuildConfig, asker: Asker | None) -> Estimate:
    """The cost of a tree over `passages`; all zero without `asker`, whose price list and window are used."""
    documents = [group_of(passage) for passage in passages]
    kind = choose_kind(config.tree, documents, by_model=asker is not None)
    clusters, above = _nodes(documents, config.max_children)
    none = Range(expected=0, most=0)
    free = Estimate(
        tree=kind,
        documents=len(set(documents)),
        passages=len(passages),
        nodes=clusters + above,
        calls=none,
        input_tokens=none,
        output_tokens=none,
        minutes=none,
        cost=none,
    )
    if asker is None or not passages:
        return free
    read = sum(min(estimate_tokens(passage_text(passage)), CHILD_TOKENS) for passage in passages)
    reread = LONGEST_TEXT / 4  # tokens of a node's text
    children = len(passages) / max(1, clusters)
    summary_out = 0.5 * (REPLY_TOKENS + PART_TOKENS * children)
    levels_out = 0.5 * LEVELS_TOKENS
    if kind == "bottom-up":
        calls: float = clusters + above
        tokens_in = read + (clusters + above) * reread
        tokens_out = (clusters + above) * summary_out
    elif kind == "top-down":
        batches = -(-len(passages) // BATCH)
        calls = batches + clusters + above
        tokens_in = read + len(passages) * 30 * (_depth(above, config.max_children) + 1)
        tokens_out = len(passages) * levels_out + (clusters + above) * REPLY_TOKENS + 8 * len(passages)
    else:
        calls = clusters + -(-clusters // BATCH) + above
        tokens_in = read + clusters * (reread + 30 * (_depth(above, config.max_children) + 1))
        tokens_out = clusters * (summary_out + levels_out) + above * REPLY_TOKENS + 8 * clusters
    tokens_in += calls * PROMPT_TOKENS
    most_calls = int(SLACK * calls) + 8
    most_in, most_out = SLACK * tokens_in + 8_000, 2 * SLACK * tokens_out + 8_000
    cost = None
    if asker.price is not None:
        cost = Range(
            expected=asker.price.cost(input_tokens=int(tokens_in), output_tokens=int(tokens_out)),
            most=asker.price.cost(input_tokens=int(most_in), output_tokens=int(most_out)),
        )
    fast, slow = (seconds / 60 / config.concurrency for seconds in SECONDS_A_CALL)
    return replace(
        free,
        calls=Range(expected=calls, most=most_calls),
        input_tokens=Range(expected=int(tokens_in), most=int(most_in)),
        output_tokens=Range(expected=int(tokens_out), most=int(most_out)),
        minutes=Range(expected=calls * fast, most=most_calls * slow),
        cost=cost,
    )


def _nodes(documents: Sequence[str], max_children: int) -> tuple[int, int]:
    """Leaf clusters, and nodes above them, that clustering will make about."""
    passages = len(documents)
    if passages <= max_children:
        return 0, 1
    target = Sizes.for_children(max_children).target
    runs = len(document_runs(documents, max_children))
    clusters = max(2, round(passages / target))
    if runs < passages:  # by document: long ones give their own clusters
        clusters = max(clusters, round(0.8 * min(runs, passages / 2)))
    above, layer = 1, clusters
    while layer > max_children:
        layer = max(2, round(layer / even_sizes(layer, max_children).target))
        above += layer
    return clusters, above


def _depth(above: int, max_children: int) -> int:
    """Levels of topics above the clusters."""
    depth, reach = 1, 1
    while reach < above:
        reach *= max(2, max_children // 2)
        depth += 1
    return depth
