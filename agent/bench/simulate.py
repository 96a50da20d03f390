"""A simulated judge: scores a slate as a language model would, from known gold. A SIMULATION, and labelled as one.

For every (question, node) a settled score is drawn once from the profile's quantiles (agent.bench.profiles): a leaf's
from whether it is gold and how similar it is to the question, an inner node's from the gold beneath and how close its
topic is, harder with height. Each slate adds its own bias, company, order, missing ids and repeat noise. Everything is
drawn from hashes of (seed, question, slate), so the same slate gets the same reply in whatever order slates arrive, and
`Slate.repeat` gives a fresh draw. Knows no text and no model. Tested in tests/bench/test_simulate.py.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from branchwise.agent.bench.profiles import LEVELS, JudgeProfile, Quantiles
from branchwise.stores.errors import InputError
from branchwise.stores.records import Judgement, Question, Slate, Usage
from branchwise.stores.tree import SemanticTree

FloatVector = npt.NDArray[np.float64]
Prior = Callable[[str], npt.NDArray[np.floating]]
"""Similarity of every leaf (in the order of `tree.leaf_ids`) to a question's text; any unit, higher is closer."""

NEAREST_LEAVES = 100
NEAREST_NODES = 40
"""How many of the closest candidates the profiles' `leaf_other` and `inner_other` describe; beyond, scores fall off."""

PROMPT_TOKENS, LEAF_TOKENS, INNER_TOKENS, REPLY_TOKENS = 450, 160, 120, 12
"""Assumed size of a call: instructions and question, each candidate (passages cut to ~110 words), each scored reply."""

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is known of one question: gold leaves with their grade in (0, 1], and closeness of leaves and inner nodes.

    Closeness is in standard deviations around the mean of the nearest hundred leaves (forty nodes of the same height).
    """

    gold: Mapping[str, float]
    leaf_closeness: FloatVector
    inner_closeness: Mapping[str, float]
    gold_beneath: Mapping[str, tuple[int, float]]


@dataclass(slots=True)
class SimulatedJudge:
    """A judge over `tree` that knows the gold of each question. Implements the Judge protocol of agent.search.

    `gold` maps a question's text to grades in (0, 1] by leaf id; a question that is not in it raises InputError.
    """

    tree: SemanticTree
    gold: Mapping[str, Mapping[str, float]]
    prior: Prior
    profile: JudgeProfile
    seed: int = 0
    max_slate: int = 40
    name: str = field(init=False)
    _heights: dict[int, list[str]] = field(init=False, repr=False)
    _truths: Callable[[str], Truth] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.name = f"simulated:{self.profile.name}"
        self._heights = {}
        for node_id in self.tree.inner_ids:
            self._heights.setdefault(self.tree.height(node_id), []).append(node_id)
        self._truths = lru_cache(maxsize=64)(self._truth_of)

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        """Score `slate`; None for a candidate that this reply forgets."""
        return self.judge_now(slate, question)

    def judge_now(self, slate: Slate, question: Question) -> Judgement:
        """The same without a loop to wait in, for tests and plots."""
        profile, truth, nodes = self.profile, self._truths(question.text), slate.node_ids
        draw = _generator(self.seed, question.text, slate.kind, str(slate.repeat), *nodes)
        settled = np.array([self.settled_score(node, question.text, truth) for node in nodes])
        sway = np.minimum(1.0, 0.2 + 4 * settled * (1 - settled))  # a plain 0 or 1 is hardly swayed by its company
        place = np.linspace(0.5, -0.5, len(nodes)) if len(nodes) > 1 else np.zeros(len(nodes))
        shared = draw.normal(0, profile.sd_slate) + profile.company * (0.42 - settled.max(initial=0.0))
        spread = profile.sd_ends + (profile.sd_middle - profile.sd_ends) * 4 * settled * (1 - settled)
        scores = settled + sway * (shared + profile.order * place) + spread * draw.standard_normal(len(nodes))
        misread = draw.random(len(nodes)) < profile.outlier
        scores = np.where(misread, _quantile(profile.leaf_other, draw.random(len(nodes)) ** 0.25), scores)
        if profile.step:
            scores = np.round(scores / profile.step) * profile.step
        scores = np.clip(scores, 0.0, 1.0)
        forgotten = draw.random(len(nodes)) < profile.missing
        return Judgement(
            slate=slate,
            scores={
                node: None if gone else round(float(score), 6)
                for node, score, gone in zip(nodes, scores, forgotten, strict=True)
            },
            usage=self.usage(slate),
            judge=self.name,
        )

    def settled_score(self, node_id: str, question_text: str, truth: Truth | None = None) -> float:
        """What this judge would say of the node on average: its own, lasting opinion, right or wrong."""
        truth = truth or self._truths(question_text)
        stray = self._stray(node_id, question_text)
        if self.tree.is_leaf(node_id):
            return self._leaf_score(node_id, truth, stray)
        return self._inner_score(node_id, truth, stray)

    def usage(self, slate: Slate) -> Usage:
        """What such a call would cost, by assumed sizes; no money, since no one is paid."""
        size = LEAF_TOKENS if slate.kind == "leaf" else INNER_TOKENS
        count = len(slate.node_ids)
        return Usage(calls=1, input_tokens=PROMPT_TOKENS + size * count, output_tokens=REPLY_TOKENS * count)

    def _stray(self, node_id: str, question_text: str) -> float:
        """Standard normal: how far the judge's opinion of the node lies from what it should be, and never changes.

        The sum of what the question, the cluster (with its leaves) and the node itself contribute.
        """
        profile, leaf = self.profile, self.tree.is_leaf(node_id)
        cluster = (self.tree.parents(node_id) or (node_id,))[0] if leaf else node_id
        lenient, family, own = (
            _standard_normal(self.seed, question_text, of) for of in ("", f"{cluster} and its leaves", node_id)
        )
        rest = profile.kinship**0.5 * family + (1 - profile.kinship) ** 0.5 * own
        return float(profile.question**0.5 * lenient + (1 - profile.question) ** 0.5 * rest)

    def _leaf_score(self, node_id: str, truth: Truth, stray: float) -> float:
        closeness = float(truth.leaf_closeness[self.tree.leaf_row[node_id]])
        grade = truth.gold.get(node_id)
        if grade is None:
            near_gold = any(parent in truth.gold_beneath for parent in self.tree.parents(node_id))
            stray += self.profile.lift * near_gold
            return _draw(self.profile.leaf_other, self.profile.similarity_other, _steeper(closeness), stray)
        # Relevant passages lie about two deviations above the nearest hundred: 1 and 3 bound what is expected.
        expected = min(2.0, max(-2.0, closeness - 2.0))
        return grade * _draw(self.profile.leaf_gold, self.profile.similarity_gold, expected, stray)

    def _inner_score(self, node_id: str, truth: Truth, stray: float) -> float:
        harder = 1 + self.profile.growth * (self.tree.height(node_id) - 1)
        closeness = _steeper(truth.inner_closeness[node_id])
        topical = _draw(self.profile.inner_other, self.profile.similarity_other, closeness, stray, power=1 / harder)
        count, grade = truth.gold_beneath.get(node_id, (0, 0.0))
        if not count:
            return topical
        visible = harder / (1 + np.log2(count))  # the more gold beneath, the less a summary can hide it
        return max(topical, grade * _draw(self.profile.inner_gold, 0.0, 0.0, stray, power=visible))

    def _truth_of(self, question_text: str) -> Truth:
        if question_text not in self.gold:
            raise InputError(f"the simulated judge knows no gold for this question: {question_text[:80]!r}")
        similarity = np.asarray(self.prior(question_text), dtype=np.float64)
        gold = {leaf: grade for leaf, grade in self.gold[question_text].items() if leaf in self.tree}
        beneath: dict[str, tuple[int, float]] = {}
        for leaf, grade in gold.items():
            for node_id in _ancestors(self.tree, leaf):
                count, best = beneath.get(node_id, (0, 0.0))
                beneath[node_id] = (count + 1, max(best, grade))
        closest = _closest_beneath(self.tree, similarity)
        inner: dict[str, float] = {}
        for nodes in self._heights.values():
            values = np.array([closest[node] for node in nodes])
            inner.update(zip(nodes, _standardise(values, NEAREST_NODES).tolist(), strict=True))
        return Truth(
            gold=gold,
            leaf_closeness=_standardise(similarity, NEAREST_LEAVES),
            inner_closeness=inner,
            gold_beneath=beneath,
        )


def _draw(table: Quantiles, correlation: float, closeness: float, stray: float, *, power: float = 1.0) -> float:
    latent = correlation * closeness + (1 - correlation**2) ** 0.5 * stray
    return float(np.interp(_NORMAL.cdf(latent) ** power, LEVELS, table))


def _quantile(table: Quantiles, levels: FloatVector) -> FloatVector:
    return np.asarray(np.interp(levels, LEVELS, table), dtype=np.float64)


def _steeper(closeness: float) -> float:
    """Below the nearest hundred nothing was recorded; similarity counts double there and is bounded above (assumed)."""
    return min(2.5, closeness) if closeness > -1 else 2 * closeness + 1


def _standardise(values: FloatVector, nearest: int) -> FloatVector:
    if not len(values):
        return values
    top = np.sort(values)[-nearest:]
    spread = float(top.std())
    return (values - top.mean()) / spread if spread > 1e-12 else np.zeros_like(values)


def _closest_beneath(tree: SemanticTree, similarity: FloatVector) -> dict[str, float]:
    """How close each inner node's topic is: the mean of the three most similar leaves beneath and of all of them."""
    closest = {}
    for node_id in tree.inner_ids:
        below = similarity[tree.leaf_rows(node_id)]
        top = np.sort(below)[-3:].mean() if len(below) else 0.0
        closest[node_id] = float((top + below.mean()) / 2) if len(below) else 0.0
    return closest


def _ancestors(tree: SemanticTree, node_id: str) -> set[str]:
    above: set[str] = set()
    open_ids = list(tree.parents(node_id))
    while open_ids:
        parent = open_ids.pop()
        if parent not in above:
            above.add(parent)
            open_ids.extend(tree.parents(parent))
    return above


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).digest()


def _generator(seed: int, *parts: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(str(seed), *parts), "big")))


def _standard_normal(seed: int, question_text: str, node_id: str) -> float:
    (number,) = struct.unpack_from(">Q", _digest(str(seed), question_text, node_id))
    return _NORMAL.inv_cdf((number + 0.5) / 2**64)
