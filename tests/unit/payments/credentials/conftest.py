"""Keys are slow to make: one keyring a test session."""

from __future__ import annotations

import pytest

from tests.unit.payments.credentials.keyring import Keyring, make_keyring


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return make_keyring(tmp_path_factory.mktemp("keyring"))
