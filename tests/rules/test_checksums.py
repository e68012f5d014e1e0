"""Checksums are the same number whichever library counts them."""

from __future__ import annotations

import importlib
import sys
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.rules import checksums


@given(st.binary(max_size=5_000))
def test_it_is_crc_32(payload: bytes) -> None:
    """What is stored can be checked by any program that knows CRC-32."""
    assert checksums.crc32(payload) == zlib.crc32(payload)


@pytest.fixture
def without_isal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A platform for which there is no wheel of isal."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "isal.isal_zlib", None)
        importlib.reload(checksums)
        yield
    importlib.reload(checksums)


@pytest.mark.usefixtures("without_isal")
def test_it_does_without() -> None:
    """Then the standard library counts."""
    assert checksums.crc32 is zlib.crc32
