"""The command line as a real process and in this one, and a small index that was built by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ENTRY = "from branchwise.agent.surfaces.cli import main; main()"
TEXTS = {
    "tides.md": "# Tides\n\nThe sea rises and falls twice a day, because the Moon pulls at the near side of the Earth "
    "more than at the far side. When Sun and Moon stand in one line, the spring tide is highest.",
    "bread.md": "# Bread\n\nYeast eats the sugar of the flour and gives off carbon dioxide, which raises the dough. "
    "Salt slows the yeast and strengthens the gluten. A hot oven sets the crust.",
    "owls.txt": "Owls hunt at night. The comb on the first feather breaks the turbulence of the air, so that a mouse "
    "does not hear the wings. One ear stands higher than the other, which tells the owl how high a sound is.",
    "bees.txt": "A bee that has found nectar dances on the comb. The angle of the waggle to the vertical is the angle "
    "between the flower and the Sun; its length is the distance.",
    "glass.txt": "Glass is a liquid that cooled too fast to become a crystal. Old windows are thicker below because "
    "they were made so, not because the glass has flowed.",
    "bridges.txt": "A suspension bridge hangs from cables. The wind can make it swing at its own frequency; the bridge "
    "at Tacoma fell because the twisting of its deck fed on the wind.",
    "salt.txt": "The sea is salt because rivers carry salts to it that they wash out of the rocks, and only the water "
    "leaves again as vapour. Lakes without an outflow become salt for the same reason.",
    "clocks.txt": "A pendulum swings at a rate that depends on its length, not on its weight. Warm brass grows longer, "
    "so a clock loses time in summer unless the pendulum makes up for it.",
    "ice.txt": "Ice floats because water widens when it freezes. A lake therefore freezes from above, and fish live on "
    "below at four degrees, where water is heaviest.",
    "maps.txt": "No flat map of a globe keeps all angles and all areas. Mercator kept the angles, which sailors need, "
    "and made Greenland as large as Africa.",
    "kites.txt": "A kite rises because it turns the wind downwards. The tail makes it slow to turn, which keeps it "
    "steady in gusts.",
    "wells.txt": "Water stands in a well as high as the ground water around it. Where the water is shut in between two "
    "layers of clay that slope, it rises by itself: an artesian well.",
}


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one object on stdout; fails where there is more or less than one."""
        return json.loads(self.out)


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without anything that Branchwise listens to."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BRANCHWISE_", "OPENAI_"))}
    return {**kept, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8", **changes}


def branchwise(*arguments: str | Path, cwd: Path | None = None, stdin: str = "", **env: str) -> Ran:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        env=environment(**env),
        cwd=cwd,
        timeout=120,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good files, named with spaces and beyond ASCII, and of files that cannot be used."""
    folder = tmp_path_factory.mktemp("Texte über alles")
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "noise.txt").write_bytes(bytes(range(256)) * 40)
    rows = ['{"_id": "lamps", "text": "Moths steer by the Moon, and circle a lamp because it is near."}', "{not JSON"]
    (folder / "lines.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def built(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The report of building `library`."""
    path = tmp_path_factory.mktemp("indexes") / "die Bücher"
    ran = branchwise("build", corpus, "--index", path, "--max-children", "4", "--json")
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture(scope="session")
def library(built: Ran) -> Path:
    """A small index; never written to."""
    return Path(built.json()["path"])


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run a command in this process: the same code without the start of an interpreter."""
    from branchwise.agent.surfaces.cli.app import run

    for key in [key for key in os.environ if key.startswith(("BRANCHWISE_", "OPENAI_"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("BRANCHWISE_OFFLINE", "")
    monkeypatch.setenv("COLUMNS", "100")

    def run_here(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run_here
