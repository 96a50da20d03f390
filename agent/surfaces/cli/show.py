"""How hits, paths, answers and costs look in a terminal.

Texts from documents are data: never markup, never control codes. Tested in tests/surfaces/terminal/test_views.py.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from branchwise.agent.surfaces.tree_view import count, plain
from branchwise.stores.records import Answer, Citation, Hit, SearchResult, Step, Usage

if TYPE_CHECKING:
    from rich.console import RenderableType

    from branchwise.tree_builder.estimate import Estimate, Range

EXCERPT = 280  # characters of a passage in a list of hits: three lines of a terminal
QUOTE = 160  # characters of a quote below an answer


def who(judge: str, base_url: str | None = None) -> str:
    """The first line of every result: whether a language model was used, and which."""
    if judge == "embedded":
        return "No LLM was used: embedded judge."
    return f"Judge: {judge}{f' at {base_url}' if base_url else ''}."


def draw_hits(hits: Sequence[Hit], *, why: bool = False) -> Iterator[RenderableType]:
    """Each hit: rank, score, title, id, the path to it, an excerpt, the judge's reason; `why` adds every score."""
    for hit in hits:
        passage = hit.passage
        head = Text(f"{hit.rank:>2}  {hit.score:.2f}  ", style="bold cyan")
        head.append(plain(passage.title) or plain(passage.text[:60]), style="bold")
        if passage.passage_id != passage.title:
            head.append(f"  {plain(passage.passage_id)}", style="dim")
        if passage.page is not None:
            head.append(f"  page {passage.page}", style="dim")
        yield head
        if why:
            yield draw_path(hit.steps)
        elif hit.steps:
            yield Text("    " + path_line(hit.steps), style="green")
        yield Text(textwrap.indent(_wrapped(excerpt(passage.text, EXCERPT), 96), "    "))
        if hit.reason:
            yield Text(f"    why: {plain(hit.reason)}", style="italic")
        if not hit.judged:
            yield Text("    not read by the judge: ranked by BM25 and vectors", style="dim")


def path_line(steps: Sequence[Step]) -> str:
    """Titles from the root's child down, each with its path relevance where it was judged: Graphs .81 › Flows .74."""
    named = [f"{_short(step.title or step.node_id, 34)} {_earned(step)}".rstrip() for step in steps[1:]]
    return " › ".join(named)


def draw_path(steps: Sequence[Step]) -> Text:
    """One line a node, each below the other: the judge's last own score, the calibrated one, path relevance."""
    lines = Text(no_wrap=True, overflow="ellipsis")
    for depth, step in enumerate(steps[1:]):
        lines.append("\n" if depth else "").append("    " + "  " * depth)
        lines.append(scores_of(step), style="cyan").append(plain(step.title or step.node_id), style="green")
    return lines


def scores_of(step: Step) -> str:
    """The three scores of a judged node; empty for one that nobody judged: it has only inherited its path's."""
    if step.calibrated is None:
        return ""
    return f"judge {_score(step.local) or '-'} calibrated {_score(step.calibrated)} path {_score(step.path)}  "


def draw_answer(answer: Answer, *, told: bool = False) -> Iterator[RenderableType]:
    """The answer and below it where each citation stands; without its text where that was `told` already."""
    for paragraph in [] if told else answer.text.split("\n"):
        yield Text(_wrapped(plain(paragraph), 100))
    if told:
        yield Text("")
    if answer.citations:
        yield Text("")
    for citation in answer.citations:
        # An extractive answer is made of its quotes: they need not be shown twice.
        yield draw_citation(citation, quote=answer.reader != "extractive")
    for first, second in answer.conflicts:
        yield Text(f"[{first}] and [{second}] contradict each other.", style="yellow")


def draw_citation(citation: Citation, *, quote: bool = True) -> Text:
    """[1] Title, doc-id, page 3, characters 120-260, and the quote below it."""
    line = Text(f"[{citation.number}] ", style="bold cyan")
    where = [plain(citation.title), plain(citation.doc_id)]
    if citation.page is not None:
        where.append(f"page {citation.page}")
    where.append(f"characters {citation.start}-{citation.end}")
    line.append(", ".join(part for part in dict.fromkeys(where) if part), style="dim")
    if quote:
        said = _wrapped(f'"{excerpt(citation.quote, QUOTE)}"', 96)
        line.append("\n" + textwrap.indent(said, "    "), style="dim italic")
    return line


def summary(result: SearchResult, usage: Usage | None = None) -> str:
    """The last line: how many hits, what was judged, why it stopped, what it cost."""
    said = [
        count(len(result.hits), "passage"),
        f"{count(len(result.judgements), 'slate')} judged",
        STOPPED[result.stopped],
    ]
    if result.partial:
        said.append("partial")
    return ", ".join([*said, cost(usage or result.usage)])


def cost(usage: Usage) -> str:
    """ "0.12 s" and, where a model was called, calls, tokens and money."""
    said = [f"{usage.seconds:.2f} s"]
    if usage.calls:
        cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
        said.append(count(usage.calls, "model call"))
        said.append(f"{usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out")
        said.append("price unknown" if usage.cost is None else f"{usage.cost:.4f} in money")
    return ", ".join(said)


def draw_estimate(estimate: Estimate, model: str | None) -> Iterator[str]:
    """What a build would read, ask and spend: the expected figure, and the one that is not passed."""
    yield (
        f"{count(estimate.documents, 'document')}, {count(estimate.passages, 'passage')}, "
        f"about {count(estimate.nodes, 'inner node')}, {estimate.tree} tree"
    )
    if model is None:
        yield "Costs nothing: no model is asked."
        return
    yield f"{'':<12}{'expected':>14}{'at most':>14}"
    yield _range("calls", estimate.calls, ",.0f")
    yield _range("tokens in", estimate.input_tokens, ",.0f")
    yield _range("tokens out", estimate.output_tokens, ",.0f")
    yield _range("minutes", estimate.minutes, ",.1f")
    if estimate.cost is None:
        yield f"{'money':<12}The price of {model} is unknown: name a price list in BRANCHWISE_PRICES."
    else:
        yield _range(estimate.currency, estimate.cost, ",.2f")


def _range(name: str, figures: Range, form: str) -> str:
    return f"{name:<12}{figures.expected:>14{form}}{figures.most:>14{form}}"


STOPPED = {"decided": "decided", "budget": "stopped by a limit", "exhausted": "every passage was read"}


def excerpt(text: str, length: int) -> str:
    """`text` on one line, cut at a word where it is longer."""
    line = plain(text[: 4 * length])
    return line if len(line) <= length else line[:length].rsplit(" ", 1)[0] + " …"


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def _short(title: str, length: int) -> str:
    line = plain(title)
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def _earned(step: Step) -> str:
    """Path relevance of a node that was judged; one that was not has only inherited it."""
    return "" if step.calibrated is None else _score(step.path)


def _score(value: float | None) -> str:
    """Two digits as in the paper's tables: ".81", "1.0"; empty where there is no score."""
    if value is None:
        return ""
    return f"{value:.2f}".removeprefix("0") if value < 0.995 else "1.0"
