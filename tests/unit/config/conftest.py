from pathlib import Path

import pytest
from hypothesis import settings

from tests.unit.config.place import Place

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="session")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """For properties: one folder for all their examples."""
    return Place(tmp_path_factory.mktemp("settings"))
