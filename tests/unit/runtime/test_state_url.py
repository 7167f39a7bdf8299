"""A URL of the shared state that cannot be read is refused at the start, and never quoted: it holds a password."""

from __future__ import annotations

import pytest
from cortex_workloads.runtime.errors import InvalidInput
from cortex_workloads.runtime.progress import ProgressStream


@pytest.mark.parametrize(
    "url",
    [
        "hidden",
        "http://:hidden@h:6379",
        "redis://:hid/hidden@h:6379",
        "redis://:p@h:hidden",
        "redis://[hidden",
        "redis://h?hidden=1",
        "redis://h?socket_timeout=hidden",
        "rediss://h?ssl_cert_reqs=hidden",
    ],
)
def test_a_malformed_url_is_refused_without_its_text(url: str) -> None:
    with pytest.raises(InvalidInput, match="CORTEX_STATE_URL") as refused:
        ProgressStream(url)
    assert "hid" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "url", ["", "redis://h", "redis://u:p%2Fq@h:6379/1", "rediss://:p@h:6380/0?health_check_interval=5"]
)
async def test_urls_that_can_be_read_are_taken(url: str) -> None:
    async with ProgressStream(url) as stream:
        assert stream is not None
