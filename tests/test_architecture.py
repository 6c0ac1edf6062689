"""The shape of the house, read from the syntax trees: who may import whom, how long a file may be, what stays out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("streams", "models", "connectors")
FAUST_MAY = {"streams/app.py", "streams/transport.py", "streams/recovery.py"}
TORCH_MAY = {f"models/fraud/{name}.py" for name in ("ensemble", "fitting", "export")}
TORCH_MAY |= {
    f"models/vision/{name}.py" for name in ("network", "boxes", "assigner", "loss", "fitting", "export", "train")
}
TORCH_MAY |= {
    f"models/engines/{name}.py"
    for name in ("torch", "torch_graph", "torch_operators", "torch_pictures", "tensorrt", "tensorrt_build")
}
CLOCK = "streams/clock.py"
LIMIT_LINES, HINT_LINES = 400, 300
KAFKA = {"aiokafka", "kafka", "confluent_kafka", "faust"}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _sources(*folders: str) -> list[str]:
    return sorted(_name(path) for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


def _imports(name: str) -> Iterator[tuple[str, int]]:
    """Full names of all that a file imports, wherever in it, and the line."""
    package = name.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(_tree(name)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield module, node.lineno
            for alias in node.names:
                yield f"{module}.{alias.name}", node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            yield from [(str(each.value), node.lineno) for each in node.args[:1] if isinstance(each, ast.Constant)]


def _importing(names: list[str], roots: set[str]) -> list[str]:
    return sorted(
        {f"{name}:{line}" for name in names for module, line in _imports(name) if module.split(".")[0] in roots}
    )


SOURCES = _sources(*PACKAGES)


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 30
    assert ("faust", 9) not in list(_imports("streams/errors.py"))
    assert any(module == "faust" for module, _ in _imports("streams/app.py"))


def test_models_and_connectors_import_neither_each_other_nor_streams() -> None:
    assert _importing(_sources("models"), {"streams", "connectors", "benchmarks", "tests"}) == []
    assert _importing(_sources("connectors"), {"streams", "models", "benchmarks", "tests"}) == []


def test_nothing_that_ships_imports_tests() -> None:
    assert _importing(SOURCES, {"tests"}) == []


def test_benchmarks_are_needed_by_their_own_command_alone() -> None:
    others = [name for name in SOURCES if name != "streams/cli/bench.py"]
    assert _importing(others, {"benchmarks"}) == []


def test_domains_never_import_each_other() -> None:
    root = "streams.pipelines."
    for name in _sources("streams/pipelines"):
        own = name.removesuffix(".py").replace("/", ".").removeprefix(root).split(".")[0]
        found = {module.removeprefix(root).split(".")[0] for module, _ in _imports(name) if module.startswith(root)}
        assert found <= {own}, name


def test_three_files_import_faust() -> None:
    found = {each.split(":")[0] for each in _importing(SOURCES, {"faust", "mode"})}
    assert found == FAUST_MAY


def test_models_know_neither_kafka_nor_asyncio() -> None:
    assert _importing(_sources("models"), KAFKA | {"asyncio", "uvloop", "aiohttp"}) == []


def test_torch_is_imported_where_networks_are_trained_or_run_by_it_and_nowhere_else() -> None:
    found = {each.split(":")[0] for each in _importing(SOURCES, {"torch"})}
    assert found <= TORCH_MAY


def test_a_worker_starts_without_torch_onnx_pyarrow_or_what_only_benchmarks_need() -> None:
    program = (
        "import sys, importlib, pkgutil\n"
        "import streams.cli.main as main\n"
        "for name in main.COMMANDS:\n"
        "    if name != 'bench':\n"
        "        importlib.import_module(f'streams.cli.{name}')\n"
        "import streams.worker, streams.pipelines, connectors.broker, connectors.files\n"
        "heavy = ('torch', 'onnx', 'pyarrow', 'sklearn', 'matplotlib', 'quixstreams', 'bytewax', "
        "'confluent_kafka')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_help_loads_no_heavy_library() -> None:
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from streams.cli.main import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'numba', 'onnxruntime', 'faust') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# Size


def _lines(name: str) -> int:
    return len((ROOT / name).read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("name", _sources(*PACKAGES, "benchmarks"))
def test_a_file_is_short_enough_to_read(name: str) -> None:
    lines = _lines(name)
    assert lines <= LIMIT_LINES, f"{name} has {lines} lines: split it by noun"


def test_long_files_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Never fails: lists what may want a split, for who runs with -s."""
    with capsys.disabled(), warnings.catch_warnings():
        long = [f"{name} ({_lines(name)})" for name in _sources(*PACKAGES, "benchmarks") if _lines(name) > HINT_LINES]
        if long:
            sys.stdout.write(f"\nover {HINT_LINES} lines: {', '.join(long)}\n")


# What stays out


@pytest.mark.parametrize("name", SOURCES)
def test_only_the_clock_asks_what_time_it_is(name: str) -> None:
    found = []
    for node in ast.walk(_tree(name)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "time.time",
            "time.time_ns",
            "datetime.now",
            "datetime.utcnow",
            "datetime.today",
            "datetime.datetime.now",
            "date.today",
        ):
            found.append(f"{name}:{node.lineno}")
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "time"
            and {a.name for a in node.names} & {"time", "time_ns"}
        ):
            found.append(f"{name}:{node.lineno}")
    assert name == CLOCK or not found, found


@pytest.mark.parametrize("name", SOURCES)
def test_only_the_command_line_prints(name: str) -> None:
    if name.startswith("streams/cli/"):
        return
    calls = [node for node in ast.walk(_tree(name)) if isinstance(node, ast.Call)]
    assert not [node.lineno for node in calls if ast.unparse(node.func) in ("print", "sys.stdout.write")]


@pytest.mark.parametrize("name", SOURCES)
def test_input_is_not_checked_by_assert_and_no_except_is_bare(name: str) -> None:
    for node in ast.walk(_tree(name)):
        assert not isinstance(node, ast.Assert), f"{name}:{node.lineno}: an assert disappears under python -O"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{name}:{node.lineno}: a bare except"


@pytest.mark.parametrize("name", SOURCES)
def test_every_module_says_what_it_is(name: str) -> None:
    if not _tree(name).body:
        return
    assert ast.get_docstring(_tree(name)), name
    first = [node for node in _tree(name).body if not isinstance(node, ast.Expr)]
    assert not first or ast.unparse(first[0]) == "from __future__ import annotations", name


def test_the_packages_of_the_wheel_are_the_folders() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {str(Path(name).parent).replace("/", ".") for name in SOURCES}
    assert sorted(listed) == sorted(folders)


def test_every_folder_with_code_is_a_package() -> None:
    for folder in {str(Path(name).parent) for name in [*SOURCES, *_sources("tests", "benchmarks")]}:
        assert (ROOT / folder / "__init__.py").is_file(), folder


def _tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


# Written apart, so that this file does not find itself.
FOREIGN = re.compile(
    "|".join(
        [
            "index" + r"[-_]url",
            "extra" + "-index",
            "trusted" + "-host",
            r"https?://[^\s/\"']*(?:nexus|artifactory|devpi|verdaccio|mirror|proxy)[^\s\"']*",
            r"(?<![\w.])/(?:home|root|Users)/[a-z]",
            r"(?<![\w./])/work" + r"/",
            r"site" + r"-packages/",
        ]
    )
)


def test_no_tracked_file_knows_a_registry_or_a_path_of_one_machine() -> None:
    found = []
    for name in _tracked():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if FOREIGN.search(line):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert found == []


def test_no_local_state_is_tracked() -> None:
    odd = re.compile(r"(^|/)(\.venv|\.headrace|__pycache__|build|dist)/|\.(pyc|log|parquet|egg-info)$")
    assert [name for name in _tracked() if odd.search(name)] == []
