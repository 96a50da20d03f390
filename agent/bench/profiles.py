"""What simulated judges are like: how real language models scored, boiled down to numbers.

These are SIMULATIONS. A profile says how scores of relevant and other candidates spread (quantiles), how much of that
follows the similarity that BM25 and vectors see, and how far one slate's scores stray from the settled ones. Where a
number was measured and where it is assumed is said beside it. Knows nothing of trees or slates.
Tested in tests/bench/test_simulate.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from branchwise.stores.errors import InputError

LEVELS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
"""The levels at which every quantile table below is given; in between, linear."""

Quantiles = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeProfile:
    """How one kind of judge scores. All scores in [0, 1]; `sd` is a standard deviation of scores.

    The *settled* score of a candidate is what the judge would say on average over many slates; it is wrong in its own
    way and no repetition mends that. `leaf_gold` and `leaf_other` are its quantiles over relevant passages and over
    the others among the hundred nearest, `inner_gold` and `inner_other` those of nodes one above the leaves with and
    without gold beneath. One slate's score = settled + slate bias + company + order + repeat noise, clipped.
    """

    name: str
    leaf_gold: Quantiles
    leaf_other: Quantiles
    inner_gold: Quantiles
    inner_other: Quantiles
    similarity_gold: float
    """Correlation of a relevant candidate's settled score with its similarity to the query (0: none, 1: all)."""
    similarity_other: float
    """The same for the others: what makes topical near-misses score in the middle."""
    sd_ends: float
    """Spread of repeated scores of one candidate near 0 and 1."""
    sd_middle: float
    """The same at .5; in between it follows 4 s (1 - s)."""
    sd_slate: float
    """Spread of the bias that all candidates of one slate share."""
    company: float
    """How much a score falls when the best of the slate is 1 rather than 0: listwise scores are relative."""
    order: float
    """How much the last candidate of a slate loses against the first."""
    missing: float = 0.0
    """Chance that a candidate gets no score at all (None)."""
    outlier: float = 0.0
    """Chance that a score is drawn afresh from everything the judge ever says, as if it had misread."""
    step: float = 0.0
    """Scores are multiples of this (0: continuous)."""
    question: float = 0.0
    """Share of a settled score's variance that all candidates of one question have in common: lenient on one question,
    strict on the next."""
    kinship: float = 0.0
    """Share of the rest that a cluster and its leaves have in common: who misreads a topic misreads all of it."""
    lift: float = 0.0
    """How many deviations the neighbours of gold in its cluster score higher than others of the same similarity."""
    growth: float = 0.0
    """How fast inner nodes get harder with height: quantile u becomes u ** (1 + growth * (height - 1)) with gold
    beneath, and u ** (1 / the same) without, so broad summaries hide gold and sound plausible without."""


def _table(*values: float) -> Quantiles:
    if len(values) != len(LEVELS):
        raise ValueError(f"{len(values)} values for {len(LEVELS)} levels")
    return values


def _steps(shares: tuple[float, ...]) -> Quantiles:
    """Quantiles of a score that takes 0, .2, .4, .6, .8, 1 with these shares (spread over half a step each way)."""
    edges = [0.0]
    for share in shares:
        edges.append(edges[-1] + share / sum(shares))
    values = []
    for level in LEVELS:
        place = next(i for i in range(6) if level <= edges[i + 1] + 1e-12 or i == 5)
        within = (level - edges[place]) / max(edges[place + 1] - edges[place], 1e-9)
        values.append(min(1.0, max(0.0, 0.2 * place + 0.2 * (min(1.0, within) - 0.5))))
    return tuple(values)


ORACLE = JudgeProfile(
    name="oracle",
    # Not a model: relevant is 1 (times its grade), a neighbour at most .4, and nothing ever strays.
    leaf_gold=(1.0,) * len(LEVELS),
    leaf_other=_table(0, 0, 0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.14, 0.2, 0.25, 0.3, 0.4),
    inner_gold=(1.0,) * len(LEVELS),
    inner_other=_table(0, 0, 0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.14, 0.2, 0.25, 0.3, 0.4),
    similarity_gold=0.0,
    similarity_other=1.0,
    sd_ends=0.0,
    sd_middle=0.0,
    sd_slate=0.0,
    company=0.0,
    order=0.0,
)

FRONTIER = JudgeProfile(
    name="frontier",
    # Measured: a frontier model's 240 leaf slates and 100 inner slates (2026-11-20). Quantiles of the mean score of 22
    # relevant and 698 other passages (BM25's top 30 and random ones), of 20 nodes with gold one above the leaves and
    # 220 others in the same branch. Rank correlation with BM25: relevant .3 to .56 by collection, others .12 to .78.
    # With the half that was kept aside, 6 % of the relevant ones scored .2 or less: the lower end is set to that.
    # The gold cluster scored under .3 in 5 %.
    # A candidate's repeated scores spread by .014 overall, .065 between .1 and .9; slate bias .014; a slate's mid
    # scores fall by .09 from a best of 0 to a best of 1, and by .02 from first place to last.
    leaf_gold=_table(
        0.03, 0.08, 0.18, 0.45, 0.588, 0.605, 0.688, 0.708, 0.747, 0.801, 0.919, 0.942, 0.975, 0.981, 0.99
    ),
    leaf_other=_table(0, 0, 0, 0, 0, 0.003, 0.007, 0.01, 0.017, 0.03, 0.047, 0.087, 0.16, 0.268, 0.75),
    inner_gold=_table(0.1, 0.2, 0.35, 0.878, 0.918, 0.93, 0.95, 0.96, 0.97, 0.97, 0.97, 0.98, 0.98, 0.98, 0.99),
    inner_other=_table(0, 0, 0, 0, 0.01, 0.01, 0.01, 0.015, 0.02, 0.025, 0.05, 0.1, 0.22, 0.4, 0.8),
    similarity_gold=0.4,
    similarity_other=0.5,
    sd_ends=0.004,
    sd_middle=0.065,
    sd_slate=0.014,
    company=0.09,
    order=0.02,
    step=0.01,
    # Not recorded here; as measured on the 32B model (see qwen_32b).
    kinship=0.35,
    lift=0.5,
    # Height 2 against 1 in the same slates: the 90 % quantile of others .1 against .04 to .06.
    growth=0.3,
)

FLASH = JudgeProfile(
    name="2.5-flash",
    # Measured on the one recorded LATTICE run (Gemini-2.5-flash, 21 expansions): repeats spread by .13 and .70 at most,
    # slate bias .05, 4 relevant leaves (0, .85, .9, .95), 75 others (three quarters 0, 90 % .18, 95 % .6, 98 % .75),
    # 151 inner nodes without gold (90 % .5 to .8, 98 % .84 to .97). Four relevant leaves are too few for quantiles:
    # those here are assumed to lie between FRONTIER and QWEN_32B, as are company, order, missing and outlier.
    leaf_gold=_table(0, 0, 0.1, 0.25, 0.45, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.95, 1, 1),
    leaf_other=_table(0, 0, 0, 0, 0, 0, 0, 0.02, 0.05, 0.1, 0.18, 0.35, 0.6, 0.75, 0.95),
    inner_gold=_table(0, 0.1, 0.3, 0.55, 0.7, 0.75, 0.8, 0.85, 0.9, 0.9, 0.95, 0.95, 1, 1, 1),
    inner_other=_table(0, 0, 0, 0, 0, 0, 0, 0.02, 0.1, 0.15, 0.25, 0.5, 0.7, 0.84, 0.97),
    similarity_gold=0.35,
    similarity_other=0.4,
    sd_ends=0.06,
    sd_middle=0.24,
    sd_slate=0.05,
    company=0.12,
    order=0.04,
    missing=0.01,
    outlier=0.02,
    step=0.05,
    kinship=0.35,
    lift=0.5,
    growth=0.2,
)

SHARES_32B = {
    # Shares of 0, .2, .4, .6, .8, 1 that Qwen2.5-32B-Instruct gave (pointwise) to relevant documents and to the others
    # among a retriever's hundred best; two runs a subset. "all" is over all twelve subsets of BRIGHT, 276,800 pairs.
    "all": ((0.04, 0.21, 0.28, 0.30, 0.15, 0.025), (0.23, 0.34, 0.31, 0.11, 0.02, 0.001)),
    "biology": ((0.001, 0.037, 0.169, 0.370, 0.366, 0.055), (0.094, 0.363, 0.411, 0.120, 0.012, 0.0)),
    "economics": ((0.0, 0.046, 0.260, 0.440, 0.236, 0.018), (0.066, 0.299, 0.427, 0.184, 0.024, 0.001)),
    "pony": ((0.040, 0.454, 0.252, 0.201, 0.052, 0.0), (0.276, 0.492, 0.160, 0.063, 0.009, 0.0)),
    "psychology": ((0.0, 0.048, 0.286, 0.380, 0.250, 0.035), (0.083, 0.348, 0.377, 0.158, 0.032, 0.001)),
    "robotics": ((0.0, 0.104, 0.409, 0.359, 0.118, 0.010), (0.033, 0.403, 0.445, 0.110, 0.009, 0.0)),
    "theoremqa_questions": ((0.295, 0.247, 0.247, 0.120, 0.050, 0.041), (0.700, 0.149, 0.084, 0.045, 0.020, 0.003)),
}


def qwen_32b(subset: str = "all") -> JudgeProfile:
    """A judge that scores as coarsely as the 32B model did on one subset of BRIGHT.

    Measured: the shares; the share of variance that belongs to the question (.05 to .58, mostly .2 to .28); the rank
    correlation with another retriever's order (relevant .27 to .48, others .05 to .32); that 21 to 25 % of the scores
    change, by one step, when a document is scored in another run; that other passages of one web page share .28 to .37
    of their variance within a question, and score .11 to .14 higher where the page holds gold. It scored one document
    at a time: what it would do with slates (bias, company, order, missing) and with inner nodes is
    assumed.
    """
    if subset not in SHARES_32B:
        raise InputError(f"no recorded scores for subset {subset!r}", hint=f"recorded: {', '.join(SHARES_32B)}")
    gold, other = (_steps(shares) for shares in SHARES_32B[subset])
    return JudgeProfile(
        name="32b" if subset == "all" else f"32b-{subset}",
        leaf_gold=gold,
        leaf_other=other,
        inner_gold=gold,
        inner_other=other,
        similarity_gold=0.35,
        similarity_other=0.3,
        sd_ends=0.04,
        sd_middle=0.06,
        sd_slate=0.06,
        company=0.12,
        order=0.05,
        missing=0.03,
        outlier=0.02,
        step=0.2,
        question=0.25,
        kinship=0.35,
        lift=0.5,
        growth=0.2,
    )


def noisy_oracle(sd: float) -> JudgeProfile:
    """An oracle whose every score strays by `sd` afresh each time, and whose slates share a bias of half of that."""
    if sd < 0:
        raise InputError(f"noise is a standard deviation of scores, at least 0, not {sd}")
    return replace(ORACLE, name=f"oracle+{sd:g}", sd_ends=sd, sd_middle=sd, sd_slate=sd / 2) if sd else ORACLE


def judge_profile(dial: str | float) -> JudgeProfile:
    """The profile that a dial names: a kind of judge, or a number, the noise of an oracle's scores."""
    if isinstance(dial, int | float):
        return noisy_oracle(float(dial))
    named = {"oracle": ORACLE, "frontier": FRONTIER, "flash": FLASH, "2.5-flash": FLASH}
    if dial in named:
        return named[dial]
    if dial == "32b" or dial.startswith("32b-"):
        return qwen_32b(dial.removeprefix("32b").removeprefix("-") or "all")
    try:
        return noisy_oracle(float(dial))
    except ValueError as error:
        raise InputError(
            f"no simulated judge is called {dial!r}",
            hint="oracle, frontier, flash, 32b, 32b-<BRIGHT subset>, or a number: the noise of an oracle's scores",
        ) from error
