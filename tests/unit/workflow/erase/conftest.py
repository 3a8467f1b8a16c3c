"""The world that people are forgotten in."""

from pathlib import Path

import pytest
from erase_world import World, build


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Made once; tests get copies."""
    return build(tmp_path_factory.mktemp("template") / "home")


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    return template.copy(tmp_path / "home")
