from pathlib import Path

import pytest

from tests.support.settings_folder import SettingsFolder


@pytest.fixture
def folder(tmp_path: Path) -> SettingsFolder:
    return SettingsFolder(tmp_path)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> SettingsFolder:
    """Folder that all examples of a property share."""
    return SettingsFolder(tmp_path_factory.mktemp("settings"))
