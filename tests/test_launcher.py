"""The launcher, with a stand-in for Python that records what it is asked: no test here installs anything."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("sh", "cat", "cksum", "dirname", "ls", "mkdir", "rm", "rmdir", "sleep", "cp", "env")

# Answers the launcher's questions as a whole Python would, makes "environments" of itself, and writes down the rest.
PYTHON = """\
#!/bin/sh
case "$*" in
*version_info*) exit "${FAKE_OLD:-0}" ;;
*ensurepip*) exit "${FAKE_BARE:-0}" ;;
*"import pip"*) exit 0 ;;
"-m venv"*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python"; exit 0 ;;
*"pip install"*) echo "$*" >>"$FAKE_LOG"; exit "${FAKE_PIP:-0}" ;;
esac
echo "ran $*; in $PWD; path ${PYTHONPATH-unset}; environment ${VIRTUAL_ENV-unset}"
"""


class Checkout:
    """A copy of the launcher in a folder of its own, with a PATH that holds the stand-in and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a check out"
        self.root.mkdir()
        shutil.copy(ROOT / "headrace", self.root)
        shutil.copy(ROOT / "pyproject.toml", self.root)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            self.bin.joinpath(tool).symlink_to(shutil.which(tool) or tool)
        self.log = folder / "pip.log"
        self.add_python("python3")

    def add_python(self, name: str) -> None:
        (self.bin / name).write_text(PYTHON)
        (self.bin / name).chmod(0o755)

    def run(
        self, *arguments: str, script: Path | None = None, cwd: Path | None = None, **fake: str
    ) -> tuple[int, str, str]:
        environment = {"PATH": str(self.bin), "FAKE_LOG": str(self.log)} | fake
        done = subprocess.run(
            [script or self.root / "headrace", *arguments],
            env=environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    @property
    def installs(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_first_use_installs_and_later_ones_only_run(checkout: Checkout) -> None:
    first = checkout.run("topics", "a b")
    second = checkout.run("topics", "a b")

    assert first[0] == second[0] == 0
    assert "ran -P -m streams.cli topics a b;" in first[1]
    assert second[1:] == (first[1], "")
    assert len(checkout.installs) == 1
    assert checkout.installs[0].endswith(f"-e {checkout.root}")


def test_works_from_anywhere_and_through_links(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "one").symlink_to("../a check out/headrace")
    (tmp_path / "two").symlink_to(tmp_path / "links" / "one")

    code, said, _ = checkout.run("demo", script=tmp_path / "two", cwd=tmp_path / "links")

    assert code == 0
    assert f"in {tmp_path / 'links'};" in said
    assert (checkout.root / ".venv").is_dir()


def test_extras_are_installed_for_those_who_ask(checkout: Checkout) -> None:
    checkout.run("demo")
    _, tested, _ = checkout.run("test", "-k", "a or b")
    _, measured, _ = checkout.run("bench", "fraud")
    checkout.run("test")
    checkout.run("bench")

    assert [line.rpartition("-e ")[2] for line in checkout.installs] == [
        str(checkout.root),
        f"{checkout.root}[dev]",
        f"{checkout.root}[bench]",
    ]
    assert tested.startswith(f"ran -m pytest -k a or b; in {checkout.root};")
    assert "ran -P -m streams.cli bench fraud;" in measured


def test_an_extra_brings_the_default(checkout: Checkout) -> None:
    checkout.run("test")
    checkout.run("demo")

    assert len(checkout.installs) == 1


def test_changed_dependencies_are_installed(checkout: Checkout) -> None:
    checkout.run("demo")
    with (checkout.root / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")
    checkout.run("demo")

    assert len(checkout.installs) == 2


def test_moved_checkout_is_installed_again(checkout: Checkout, tmp_path: Path) -> None:
    checkout.run("demo")
    checkout.root = checkout.root.rename(tmp_path / "moved")
    checkout.run("demo")

    assert checkout.installs[1].endswith(f"-e {tmp_path / 'moved'}")


def test_failed_installation_is_said_and_done_again(checkout: Checkout) -> None:
    code, said, error = checkout.run("demo", FAKE_PIP="1")
    assert code == 1
    assert said == ""
    assert "the installation failed" in error
    assert not (checkout.root / ".venv.lock").exists()

    assert checkout.run("demo")[0] == 0
    assert len(checkout.installs) == 2


def test_lock_of_a_process_that_ended_is_broken(checkout: Checkout) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    lock = checkout.root / ".venv.lock"
    lock.mkdir()
    (lock / "pid").write_text(f"{ended.pid}\n")

    assert checkout.run("demo")[0] == 0
    assert not lock.exists()


def test_simultaneous_first_uses_install_once(checkout: Checkout) -> None:
    environment = {"PATH": str(checkout.bin), "FAKE_LOG": str(checkout.log)}
    running = [
        subprocess.Popen(
            [checkout.root / "headrace", "demo"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(4)
    ]

    assert [process.wait(60) for process in running] == [0] * 4
    assert len(checkout.installs) == 1


def test_environment_of_the_user_stays_out(checkout: Checkout) -> None:
    _, said, _ = checkout.run("demo", VIRTUAL_ENV="/theirs", PYTHONPATH="/theirs", PYTHONHOME="/theirs")

    assert "path unset; environment unset" in said


def test_absent_python_is_named(checkout: Checkout) -> None:
    (checkout.bin / "python3").unlink()
    code, _, error = checkout.run("--help")

    assert code == 1
    assert "needs Python 3.11 or newer" in error


def test_old_python_is_no_python(checkout: Checkout) -> None:
    code, _, error = checkout.run("--help", FAKE_OLD="1")

    assert code == 1
    assert "needs Python 3.11 or newer" in error


def test_python_without_venv_names_the_package(checkout: Checkout) -> None:
    code, _, error = checkout.run("--help", FAKE_BARE="1")

    assert code == 1
    assert "python3 has no venv or ensurepip module" in error
    assert "python3-venv" in error
