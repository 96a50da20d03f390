"""The container files, checked without an engine: what is copied builds the wheel, what is run exists, what is open."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from typer.main import get_command

from branchwise.agent.surfaces.cli.app import app
from branchwise.agent.surfaces.cli.serve import TOKEN_VARIABLE
from branchwise.agent.surfaces.server import PORT, SHUTDOWN_SECONDS
from branchwise.agent.surfaces.settings import PREFIX, Settings
from tests.surfaces.server.conftest import ENTRY, environment, served

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / ".docker"
TOKEN = "a-token-of-thirty-two-characters"

pytestmark = pytest.mark.skipif(not DOCKER.is_dir(), reason="the container files are not part of a package")


def beside_python(name: str) -> str:
    """A command of this environment, or a skip."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, each with its arguments on one line."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.strip().partition(" ") for line in lines if line.strip())]


def argument(instructions: list[tuple[str, str]], name: str) -> str:
    """The arguments of the last instruction of this name."""
    return [rest for each, rest in instructions if each == name][-1]


def compose(**environment: str) -> dict[str, Any]:
    """The compose file as compose reads it: variables filled in, from `environment` alone, and anchors merged."""

    def fill(match: re.Match[str]) -> str:
        name, how, other = match["name"], match["how"], match["other"]
        if environment.get(name):
            return environment[name]
        if how == ":?":
            raise KeyError(f"{name}: {other}")
        assert how == ":-", f"{name} has no default, and compose would warn"
        return other

    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    read: dict[str, Any] = yaml.safe_load(
        re.sub(r"\$\{(?P<name>\w+)(?P<how>:[-?])?(?P<other>[^}]*)\}", fill, text),
    )
    return read


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services as they are with nothing but a token in the environment."""
    found: dict[str, Any] = compose(BRANCHWISE_TOKEN=TOKEN)["services"]
    return found


def test_hadolint_finds_nothing() -> None:
    """The linter of Dockerfiles, shell in RUN included, has no complaint."""
    done = subprocess.run(
        [beside_python("hadolint"), "--no-color", str(DOCKER / "Dockerfile")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_fits_its_schema() -> None:
    """The published schema of compose files accepts it."""
    checker = beside_python("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", str(DOCKER / "compose.yaml")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def is_sent(path: str) -> bool:
    """Whether Dockerfile.dockerignore sends this path of the checkout to the build: the last rule that fits decides."""
    rules = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    above = [path[: slash.start()] for slash in re.finditer("/", path)]
    is_ignored = False
    for rule in rules:
        if not rule or rule.startswith("#"):
            continue
        glob = rule.removeprefix("!")
        names = path.split("/") if glob.startswith("**/") else [*above, path]
        if any(fnmatch.fnmatch(name, glob.removeprefix("**/")) for name in names):
            is_ignored = not rule.startswith("!")
    return not is_ignored


def sent(source: str) -> Iterator[Path]:
    """The files that COPY finds under a path of the checkout."""
    top = ROOT / source
    for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
        if path.is_file() and is_sent(path.relative_to(ROOT).as_posix()):
            yield path


def test_what_is_copied_builds_the_whole_wheel(instructions: list[tuple[str, str]], tmp_path: Path) -> None:
    """The files that COPY names and the build is sent are enough for a wheel with every module, template and page."""
    pytest.importorskip("hatchling")
    for name, rest in instructions:
        if name == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                for path in sent(source):
                    relative = path.relative_to(ROOT / source) if (ROOT / source).is_dir() else Path()
                    kept = tmp_path / (target if not target.endswith("/") else f"{target}{path.name}") / relative
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, kept)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    [wheel] = (tmp_path / "dist").glob("*.whl")
    built = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in name}
    wanted = {
        f"branchwise/{path.relative_to(ROOT).as_posix()}"
        for folder in ("agent", "prompts", "stores", "tree_builder")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= built


@pytest.mark.parametrize(
    "path",
    [
        ".docker/.env",
        ".git/config",
        "branchwise.toml",
        "branchwise-demo/manifest.json",
        "documents/a.md",
        "tests/conftest.py",
        "agent/__pycache__/engine.cpython-313.pyc",
    ],
)
def test_nothing_private_is_sent_to_the_build(path: str) -> None:
    """No environment file, index, history or cache can reach an image layer."""
    assert not is_sent(path)
    assert is_sent("agent/engine.py")


def test_the_environment_file_is_not_committed() -> None:
    """The file that compose.yaml tells to put the token into is one that git ignores."""
    assert ".docker/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_the_extras_that_are_installed_exist(instructions: list[tuple[str, str]]) -> None:
    """The wheel is installed with extras of this project, serve among them."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    [named] = re.findall(r"\.whl\)?\[([\w,-]+)\]", " ".join(rest for name, rest in instructions if name == "RUN"))
    assert "serve" in named.split(",")
    assert set(named.split(",")) <= set(extras)


def test_the_image_holds_no_secret_and_no_superuser(instructions: list[tuple[str, str]]) -> None:
    """No ARG or ENV is a secret, the process is an ordinary user's, by number, and its volumes are that user's."""
    named = " ".join(rest for name, rest in instructions if name in {"ARG", "ENV"})
    assert not re.search(r"TOKEN|KEY|SECRET|PASSWORD", named)
    user = argument(instructions, "USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    owner = f"-o {user.split(':')[0]} -g {user.split(':')[1]}"
    assert any(owner in rest for name, rest in instructions if name == "RUN")


def test_images_are_of_a_version() -> None:
    """No image is whatever is newest today; ours carries the project's version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    images = re.findall(r"^FROM (\S+)", text, re.M)
    images += [service["image"] for service in compose(BRANCHWISE_TOKEN=TOKEN)["services"].values()]
    for image in images:
        assert re.search(r":v?\d", image), image
        if image.startswith("branchwise:"):
            assert image == f"branchwise:{version}"


def test_without_a_token_nothing_starts() -> None:
    """Compose itself refuses, and says what is missing."""
    with pytest.raises(KeyError, match="16 characters"):
        compose()


def test_only_loopback_is_published(services: dict[str, Any]) -> None:
    """One port is open, to this machine, and it is the one that the server listens on and declares."""
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"app": [f"127.0.0.1:{PORT}:{PORT}"]}


def test_chroma_is_reached_by_the_app_alone(services: dict[str, Any]) -> None:
    """Its network leads nowhere, and only our own services are in it; it is not started unless asked for."""
    everything = compose(BRANCHWISE_TOKEN=TOKEN)
    [network] = services["chroma"]["networks"]
    assert everything["networks"][network] == {"internal": True}
    assert {name for name, service in services.items() if network in service["networks"]} == {"app", "build", "chroma"}
    assert "network_mode" not in json.dumps(everything)
    assert [name for name, service in services.items() if not service.get("profiles")] == ["app"]


def test_our_containers_may_do_little(services: dict[str, Any]) -> None:
    """Read-only but for volumes and /tmp, no capability, no new privileges; searches under way may end."""
    for name in ("app", "build", "chroma"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
    assert int(services["app"]["stop_grace_period"].removesuffix("s")) > SHUTDOWN_SECONDS


def test_volumes_are_where_the_user_may_write(instructions: list[tuple[str, str]], services: dict[str, Any]) -> None:
    """Every named volume of ours is mounted on a folder that the image made for its user; the index lies in one."""
    made = next(rest for name, rest in instructions if name == "RUN" and rest.startswith("install -d")).split()
    declared = compose(BRANCHWISE_TOKEN=TOKEN)["volumes"]
    for name in ("app", "build", "chroma"):
        for volume in services[name]["volumes"]:
            source, target, *mode = volume.split(":")
            assert target in made if source in declared else mode == ["ro"]
    index = dict(part.split("=", 1) for part in shlex.split(argument(instructions, "ENV")))["BRANCHWISE_INDEX"]
    assert Path(index).parent.as_posix() in made


def test_every_variable_is_one_that_is_read(services: dict[str, Any], instructions: list[tuple[str, str]]) -> None:
    """Each BRANCHWISE_ name is a setting or an option's variable, so that a misspelt one cannot pass unnoticed."""
    read = {PREFIX + name.upper() for name in Settings.model_fields} | {TOKEN_VARIABLE}
    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    read |= {str(option.envvar) for option in serve.params if option.envvar}
    given = {name for service in services.values() for name in service.get("environment", {})}
    given |= set(re.findall(r"(\w+)=", argument(instructions, "ENV")))
    ours = {name for name in given if name.startswith(PREFIX)}
    assert {"BRANCHWISE_TOKEN", "BRANCHWISE_ALLOW_HOST", "BRANCHWISE_CHROMA_URL"} <= ours
    assert ours <= read


def test_the_model_of_the_profile_is_the_model_of_the_app() -> None:
    """Named once: what vLLM serves is what the app asks for, at the address that the file's head tells to set."""
    services = compose(BRANCHWISE_TOKEN=TOKEN, BRANCHWISE_MODEL="org/name")["services"]
    command = services["vllm"]["command"]
    assert command[command.index("--model") + 1] == services["app"]["environment"]["BRANCHWISE_MODEL"] == "org/name"
    port = command[command.index("--port") + 1]
    assert f"BRANCHWISE_BASE_URL=http://vllm:{port}/v1" in (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    command = services["chroma"]["command"]
    port = command[command.index("--port") + 1]
    assert f"BRANCHWISE_CHROMA_URL=http://chroma:{port}" in (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    for name in ("vllm", "chroma"):
        assert f"http://127.0.0.1:{port}/" in services[name]["healthcheck"]["test"][-1]


def test_every_command_line_is_ours(instructions: list[tuple[str, str]], services: dict[str, Any]) -> None:
    """Entry point, CMD and the commands of compose parse as commands of `branchwise` with options that it has."""
    assert json.loads(argument(instructions, "ENTRYPOINT")) == ["branchwise"]
    lines = [json.loads(argument(instructions, "CMD"))]
    lines += [service["command"] for service in (services["app"], services["build"]) if "command" in service]
    lines.append(["repair", "--to-server", "http://chroma:8000"])
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    assert " ".join(lines[-1]) in text
    for line in lines:
        command = get_command(app).commands[line[0]]  # type: ignore[attr-defined]
        command.make_context(line[0], line[1:].copy())  # an option that there is not is an error
    assert lines[0][lines[0].index("--port") + 1] == str(PORT) == argument(instructions, "EXPOSE")


def test_the_container_serves_and_is_healthy(
    instructions: list[tuple[str, str]], services: dict[str, Any], index_path: Path, tmp_path: Path
) -> None:
    """Entry point and CMD, with the environment that compose gives, serve an index; the health check sees it."""
    given = {name: "" if value is None else str(value) for name, value in services["app"]["environment"].items()}
    given |= {"BRANCHWISE_INDEX": str(index_path), "HOME": str(tmp_path)}
    with served(given, *json.loads(argument(instructions, "CMD")), cwd=tmp_path) as url:
        port = url.rsplit(":", 1)[1]
        check = json.loads(re.sub(r"^.*CMD ", "", argument(instructions, "HEALTHCHECK")))
        assert check[0] == "python"
        script = check[2].replace(f":{PORT}/", f":{port}/")
        assert script != check[2]
        assert subprocess.run([sys.executable, "-c", script]).returncode == 0
        asked = {"question": "lambda", "k": 1}
        bearer = {"authorization": f"Bearer {TOKEN}"}
        url = f"http://127.0.0.1:{port}/search"
        assert httpx2.post(url, json=asked).status_code == 401
        assert httpx2.post(url, json=asked, headers=bearer | {"host": "evil.example"}).status_code == 421
        found = httpx2.post(url, json=asked, headers=bearer | {"host": "app:8321"}, timeout=60)
        assert found.json()["hits"]
    assert subprocess.run([sys.executable, "-c", script], stderr=subprocess.DEVNULL).returncode != 0


def test_an_index_that_cannot_be_served_is_one_sentence(index_path: Path, tmp_path: Path) -> None:
    """Not yet built, or damaged: exit code 3, what to do, and no traceback."""
    given = environment({"BRANCHWISE_INDEX": str(tmp_path / "documents")})
    command = [*ENTRY, "serve", "--port", "0"]
    missing = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True)
    shutil.copytree(index_path, tmp_path / "documents")
    next((tmp_path / "documents").rglob("vectors.npy")).unlink()
    damaged = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True)
    for done, said in ((missing, "branchwise build"), (damaged, "vectors.npy")):
        assert done.returncode == 3
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert "http://" not in done.stdout


@pytest.mark.slow
def test_the_chroma_service_has_to_be_filled(
    instructions: list[tuple[str, str]], services: dict[str, Any], index_path: Path, tmp_path: Path
) -> None:
    """The service as compose starts it is healthy; an index is served once it is filled, and uploads reach it."""
    shutil.copytree(index_path, tmp_path / "documents")
    index_path = tmp_path / "documents"
    service = services["chroma"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    places = {"/chroma": str(tmp_path / "chroma"), "0.0.0.0": "127.0.0.1", "8000": str(port)}
    command = [beside_python(service["entrypoint"][0]), *(places.get(word, word) for word in service["command"])]
    check = service["healthcheck"]["test"][-1].replace(":8000/", f":{port}/")
    given = {"BRANCHWISE_INDEX": str(index_path), "BRANCHWISE_CHROMA_URL": url, "HOME": str(tmp_path)}
    given = environment(given | {"BRANCHWISE_MAX_UPLOAD": "100000"})
    chroma = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            if not subprocess.run([sys.executable, "-c", check], stderr=subprocess.DEVNULL).returncode:
                break
            time.sleep(0.1)
        refused = subprocess.run(
            [*ENTRY, "serve", "--port", "0"], env=given, cwd=tmp_path, capture_output=True, text=True
        )
        assert refused.returncode == 3
        assert f'repair --index "{index_path}" --to-server {url}' in refused.stderr
        assert "Traceback" not in refused.stderr
        subprocess.run([*ENTRY, "repair", "--to-server", url], env=given, cwd=tmp_path, check=True, capture_output=True)
        with served(given, cwd=tmp_path) as address:
            found = httpx2.post(f"{address}/search", json={"question": "lambda", "k": 1}, timeout=60)
            assert found.json()["hits"]
            added = httpx2.post(f"{address}/documents?name=a.txt", content=b"The quokka smiles at us.", timeout=60)
            assert added.json()["generation"] == 2
            found = httpx2.post(f"{address}/search", json={"question": "Who smiles? The quokka!", "k": 1}, timeout=60)
            assert "quokka" in found.json()["hits"][0]["text"]
            assert httpx2.get(f"{address}/healthz").json() == {"status": "ok", "stale": []}
    finally:
        chroma.terminate()
        chroma.wait()
