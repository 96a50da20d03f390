"""What a build will cost, before it costs anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from branchwise.prompts.ask import Asker
from branchwise.prompts.prices import Price, PriceList
from branchwise.prompts.stand_in import stand_in_model
from branchwise.prompts.testing import forbid_model_calls
from branchwise.stores.records import Document
from branchwise.tree_builder.build import build
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.estimate import estimate

MakeDocuments = Callable[..., list[Document]]
PRICES = PriceList(prices={"stand-in": Price(input=1e-6, output=4e-6, cached=1e-7)})


@pytest.mark.parametrize("kind", ["bottom-up", "top-down", "hybrid"])
@pytest.mark.parametrize("count", [5, 90])
@pytest.mark.parametrize("garbage", [False, True])
async def test_the_upper_bound_is_never_passed(
    kind: str, count: int, garbage: bool, tmp_path: Path, make_documents: MakeDocuments
) -> None:
    """Calls, tokens and money of a real build stay under the estimate, with a model that always fails too."""
    config = BuildConfig(tree=kind, max_children=6)  # type: ignore[arg-type]
    documents = make_documents(count)
    model = stand_in_model()
    if garbage:
        model.function = lambda request: "no " * 50
    asker = Asker(model, prices=PRICES)
    with forbid_model_calls():
        told = estimate(documents, config, asker=asker)
    report = await build(documents, tmp_path / "index", config, asker=asker)
    assert told.passages == count
    assert len(model.requests) == report.usage.calls <= told.calls.most
    assert report.usage.input_tokens + report.usage.output_tokens <= told.input_tokens.most + told.output_tokens.most
    assert told.cost is not None
    assert report.usage.cost is not None
    assert report.usage.cost <= told.cost.most
    if not garbage:
        assert not report.partial


def test_an_unknown_price_is_not_free(make_documents: MakeDocuments) -> None:
    """Without a price the cost is None; without a model it is 0, and so is everything else."""
    model = stand_in_model(name="unheard-of")
    model.endpoint = "https://example.invalid/v1"
    assert estimate(make_documents(20), asker=Asker(model, prices=PriceList())).cost is None
    free = estimate(make_documents(20))
    assert free.cost is not None
    assert (free.calls.most, free.cost.most, free.input_tokens.most) == (0, 0, 0)
