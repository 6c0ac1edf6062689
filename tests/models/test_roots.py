"""Which version is which, where there are several folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models import repository
from models.engine import ModelCorrupt, ModelNotFound, ModelReadOnly, RepositoryUnusable
from models.repository import ZOO, Repository
from tests.models import networks


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of bundled models, `scaling` 1 to 3."""
    zoo = tmp_path / "zoo"
    for version in (1, 2, 3):
        networks.save(zoo, version, description=f"bundled {version}")
    monkeypatch.setattr(repository, "ZOO", zoo)
    return zoo


def test_without_roots_there_are_the_bundled_models() -> None:
    models = Repository()
    assert models.roots == (ZOO,)
    assert models.load("fraud").path.parent.parent == ZOO


def test_names_and_versions_are_those_of_all_roots(tmp_path: Path, bundled: Path) -> None:
    own = tmp_path / "own"
    models = Repository([own, bundled])
    assert models.names() == ["scaling"]
    networks.save(own, 7)
    networks.save(own, 1, name="churn")
    assert models.names() == ["churn", "scaling"]
    assert models.versions("scaling") == [1, 2, 3, 7]
    assert models.next_version("scaling") == 8
    assert models.next_version("unheard-of") == 1
    assert models.root_of("scaling", 7) == own
    assert models.root_of("scaling", 3) == bundled


def test_what_is_added_does_not_serve_by_itself(tmp_path: Path, bundled: Path) -> None:
    own = tmp_path / "own"
    models = Repository([own, bundled])
    assert models.default("scaling") == 3
    networks.save(own, 9)
    assert models.default("scaling") == 3
    assert models.load("scaling").manifest.description == "bundled 3"
    for version in (5, 4, 6):
        networks.save(own, version, name="churn")
    assert models.default("churn") == 4


def test_a_version_that_is_in_both_is_the_users_and_serves_only_by_its_number(tmp_path: Path, bundled: Path) -> None:
    own = tmp_path / "own"
    models = Repository([own, bundled])
    networks.save(own, 3, description="own 3")
    assert models.load("scaling", 3).manifest.description == "own 3"
    assert models.load("scaling").manifest.description == "bundled 2"


def test_new_versions_go_into_the_first_root(tmp_path: Path, bundled: Path) -> None:
    own = tmp_path / "own"
    models = Repository([own, bundled])
    onnx = networks.scaling().SerializeToString()
    saved = models.save(onnx, networks.manifest(models.next_version("scaling")), networks.golden())
    assert saved.path == own / "scaling" / "4"
    assert models.versions("scaling") == [1, 2, 3, 4]


def test_a_network_is_found_by_its_sha256(tmp_path: Path, bundled: Path) -> None:
    models = Repository([tmp_path / "own", bundled])
    sha256 = models.load("scaling").manifest.sha256
    assert [each.version for each in models.alike("scaling", sha256)] == [3, 2, 1]
    (bundled / "scaling" / "3" / "manifest.toml").write_text("broken")
    assert [each.version for each in models.alike("scaling", sha256)] == [2, 1]
    assert not list(models.alike("scaling", "0" * 64))
    assert not list(models.alike("other", sha256))


def test_a_version_is_removed_and_the_others_stay(tmp_path: Path, bundled: Path) -> None:
    own = tmp_path / "own"
    models = Repository([own, bundled])
    for version in (3, 4):
        networks.save(own, version, description=f"own {version}")
    assert models.remove("scaling", 3) == own / "scaling" / "3"
    assert models.versions("scaling") == [1, 2, 3, 4]
    assert models.load("scaling", 3).manifest.description == "bundled 3"
    assert [path.name for path in (own / "scaling").iterdir()] == ["4"]
    with pytest.raises(ModelReadOnly, match=r"scaling/3: it is bundled"):
        models.remove("scaling", 3)
    assert models.load("scaling", 3)
    with pytest.raises(ModelNotFound, match="no version 5"):
        models.remove("scaling", 5)


def test_the_bundled_models_are_not_removed_through_another_name(tmp_path: Path, bundled: Path) -> None:
    disguised = tmp_path / "disguised"
    disguised.symlink_to(bundled)
    with pytest.raises(ModelReadOnly):
        Repository([disguised]).remove("scaling", 1)
    own = tmp_path / "own"
    own.mkdir()
    (own / "scaling").symlink_to(bundled / "scaling")
    with pytest.raises(RepositoryUnusable, match="expected a folder, got a link; nothing was changed behind it"):
        Repository([own]).remove("scaling", 1)
    assert Repository([bundled]).versions("scaling") == [1, 2, 3]


def test_removing_a_version_that_is_a_link_removes_the_link_alone(tmp_path: Path, bundled: Path) -> None:
    own = tmp_path / "own"
    (own / "scaling").mkdir(parents=True)
    (own / "scaling" / "9").symlink_to(bundled / "scaling" / "1")
    models = Repository([own, bundled])
    with pytest.raises(ModelCorrupt, match="expected a folder, got a link"):
        models.load("scaling", 9)
    models.remove("scaling", 9)
    assert models.versions("scaling") == [1, 2, 3]
    assert models.load("scaling", 1)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "scaling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RepositoryUnusable, match="got a link"):
        networks.save(tmp_path / "own")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_root_that_is_a_file_holds_nothing_and_takes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.write_text("")
    assert Repository([root]).names() == []
    with pytest.raises(RepositoryUnusable, match="nothing was written"):
        networks.save(root)
    with pytest.raises(RepositoryUnusable, match=rf"expected a folder, got a file, {root}; nothing was begun"):
        Repository([root]).check_writable("scaling")


def test_that_a_version_can_be_saved_is_known_before_and_nothing_is_made_for_it(tmp_path: Path) -> None:
    Repository([tmp_path / "new" / "root"]).check_writable("scaling")
    assert list(tmp_path.iterdir()) == []
    networks.save(tmp_path)
    Repository([tmp_path]).check_writable("scaling")
    assert networks.save(tmp_path, Repository([tmp_path]).next_version("scaling"))


def test_the_next_version_steps_over_what_lies_there(tmp_path: Path) -> None:
    networks.save(tmp_path)
    (tmp_path / "scaling" / "2").write_text("in the way")
    models = Repository([tmp_path])
    assert models.next_version("scaling") == 3
    with pytest.raises(ModelCorrupt, match=r"scaling/2: expected a folder, got a file"):
        models.load("scaling", 2)


def test_a_repository_is_read_anew_each_time(tmp_path: Path) -> None:
    models = Repository([tmp_path])
    networks.save(tmp_path)
    assert models.load("scaling").version == 1
    shutil.rmtree(tmp_path / "scaling")
    with pytest.raises(ModelNotFound, match="there is none"):
        models.load("scaling")
