"""Sources of a client: attached for a block, detached whatever happens."""

import pytest

from penstock.domain.errors import ClientGone, PenstockError
from penstock.gateway.client import CancellableSource, fed_by
from tests.unit.gateway.recording_client import RecordingClient


def test_a_source_feeds_its_client_for_the_block_only():
    client, source = RecordingClient(), CancellableSource(lambda _: None)
    with fed_by(client, source):
        assert client.upstream is source
    assert client.upstream is None


def test_a_source_is_detached_when_the_block_fails():
    client = RecordingClient()
    with pytest.raises(RuntimeError), fed_by(client, CancellableSource(lambda _: None)):
        raise RuntimeError
    assert client.upstream is None


def test_a_cancellable_source_passes_the_error_on():
    errors: list[PenstockError] = []
    source, gone = CancellableSource(errors.append), ClientGone("The client disconnected.")
    source.pause()
    source.resume()
    source.abort(gone)
    assert errors == [gone]
