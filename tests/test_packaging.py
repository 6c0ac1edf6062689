"""The wheel: what a user installs holds the three packages with their models, and nothing else."""

from __future__ import annotations

import configparser
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("streams", "models", "connectors")
# Neighbours of the packages go along, so that a wheel without them means something.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", *PACKAGES, "tests", "benchmarks", "dashboards")
BUILD_TIMEOUT_S = 120
SETUPTOOLS = 77  # the first that reads `license = "Apache-2.0"` and `license-files`


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The project's wheel, built without a network from a copy of the tree."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("building a wheel needs pip, which this environment does not have")
    try:
        version = metadata.version("setuptools")
    except metadata.PackageNotFoundError:
        version = "none"
    if version == "none" or int(version.split(".")[0]) < SETUPTOOLS:
        pytest.skip(f"building a wheel without a network needs setuptools >= {SETUPTOOLS} here, there is {version}")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    for package in PACKAGES:
        (source / package / "__pycache__").mkdir()
        (source / package / "__pycache__" / "left.cpython-311.pyc").write_bytes(b"left over")
    (source / "data").mkdir()
    (source / "data" / "events.jsonl").write_text("{}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-index"]
    built = subprocess.run(
        [*command, "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source)],
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def _files(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_it_holds_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in _files(wheel)} == set(PACKAGES)
    assert not [name for name in wheel.namelist() if "__pycache__" in name or name.endswith((".pyc", ".pyo"))]


def test_no_module_is_left_out(wheel: zipfile.ZipFile) -> None:
    modules = {str(path.relative_to(ROOT)) for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    missing = sorted(modules - _files(wheel))
    assert not missing, f"add their folders to [tool.setuptools] packages in pyproject.toml: {missing}"
    assert {name for name in _files(wheel) if name.endswith(".py")} == modules


def test_the_bundled_models_are_in_it_whole(wheel: zipfile.ZipFile) -> None:
    zoo = [path for path in (ROOT / "models/zoo").rglob("*") if path.is_file()]
    assert {path.name for path in zoo} >= {"model.onnx", "manifest.toml", "golden.npz"}
    for path in zoo:
        assert wheel.read(str(path.relative_to(ROOT))) == path.read_bytes()


def test_what_is_not_python_is_a_model_a_marker_of_types_or_the_demos_page(wheel: zipfile.ZipFile) -> None:
    others = {name for name in _files(wheel) if not name.endswith(".py")}
    markers = {f"{name}/py.typed" for name in PACKAGES}
    page = {"streams/demo/page.html"}
    assert markers | page <= others
    assert all(name.startswith("models/zoo/") for name in others - markers - page)


def test_it_installs_the_command(wheel: zipfile.ZipFile) -> None:
    points = configparser.ConfigParser()
    points.read_string(_metadata(wheel, "entry_points.txt"))
    assert dict(points["console_scripts"]) == {"headrace": "streams.cli.__main__:main"}


def test_serving_needs_no_training_and_no_test_package(wheel: zipfile.ZipFile) -> None:
    fields = Parser().parsestr(_metadata(wheel, "METADATA"))
    required = [line for line in fields.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert any(line.startswith("onnxruntime") for line in required)
    assert not [line for line in required if line.startswith(("torch", "pytest", "onnx>", "pyarrow"))]
    assert fields["License-Expression"] == "Apache-2.0"
    assert _metadata(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")


def _metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (each for each in wheel.namelist() if each.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()
