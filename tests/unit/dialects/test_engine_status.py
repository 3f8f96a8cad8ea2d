"""Status of a request that an engine refused with a 500."""

import pytest

from penstock import dialects
from penstock.domain.errors import InvalidRequest, PenstockError, RequestRefused, UpstreamStatus

DIALECTS = {dialect.name: dialect for dialect in dialects.load()}


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    ("error", "status", "in_ollamas"),
    [
        (RequestRefused("mend it", status=500), 400, 500),
        (RequestRefused("mend it", status=422), 422, 422),
        (UpstreamStatus("boom", status=503), 503, 503),
        (InvalidRequest("mend it"), 400, 400),
    ],
)
def test_only_ollamas_clients_get_the_engines_own_status(name: str, error: PenstockError, status: int, in_ollamas: int):
    assert DIALECTS[name].find_status(error) == (in_ollamas if name == "ollama" else status)
