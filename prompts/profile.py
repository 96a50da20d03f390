"""What was found out about a model on its server, kept in a small JSON file so that the next run starts from it.

`branchwise doctor` measures and saves; open_model and Asker begin with it. The file lies in the user's configuration
folder, or where BRANCHWISE_PROFILES points, and holds no secret. Tested in tests/prompts/test_doctor.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

FOLDER_VARIABLE = "BRANCHWISE_PROFILES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Settings that suit a model on its server; None where nothing was found out.

    `context_window` in tokens, `structure` and `limit_field` as in openai_chat.Dialect, `concurrency` the calls at once
    beyond which the server gave no more, `tokens_per_second` what it wrote then, all calls together. The rates a
    minute are the user's to write in: no server tells them.
    """

    model: str
    endpoint: str
    context_window: int | None = None
    structure: str | None = None
    limit_field: str | None = None
    temperature: bool = True
    logprobs: bool = False
    prefix_cache: bool = False
    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_second: float | None = None


def profile_path(model: str, endpoint: str) -> Path:
    """Where the profile of this model lies, or would lie: one file a model and server."""
    mark = hashlib.sha256(f"{model}\n{endpoint}".encode()).hexdigest()[:8]
    return _folder() / f"{re.sub(r'[^A-Za-z0-9.]+', '-', model)[-60:]}-{mark}.json"


def save_profile(profile: Profile, path: Path | None = None) -> Path:
    """Write the profile, at its own place unless `path` says where."""
    path = path or profile_path(profile.model, profile.endpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(profile), indent=2) + "\n", encoding="utf-8")
    return path


def load_profile(model: str, endpoint: str) -> Profile | None:
    """The saved profile, None where there is none that can be read: a profile helps, and is never needed."""
    try:
        data = json.loads(profile_path(model, endpoint).read_text(encoding="utf-8"))
        known = {field.name for field in fields(Profile)}
        return Profile(**{name: value for name, value in data.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _folder() -> Path:
    if told := os.environ.get(FOLDER_VARIABLE):
        return Path(told)
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home())
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "branchwise" / "profiles"
