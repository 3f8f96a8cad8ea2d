"""Memory of paths that servers do not support."""

from penstock.gateway.upstream.unsupported_paths import RETRY_AFTER, UnsupportedPaths


def test_an_unsupported_path_is_tried_again_some_time_later():
    paths = UnsupportedPaths()
    paths.add("http://a", "/stream", 100.0)
    assert paths.includes("http://a", "/stream", 100.0 + RETRY_AFTER - 1)
    assert not paths.includes("http://b", "/stream", 101.0)
    assert not paths.includes("http://a", "/run", 101.0)
    assert not paths.includes("http://a", "/stream", 100.0 + RETRY_AFTER)
