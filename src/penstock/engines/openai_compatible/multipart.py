"""Multipart forms, which audio comes in: found their own boundary, and given another model's name."""


def form_type(body: bytes) -> bytes:
    """The Content-Type of a form, whose first line is its boundary (the dialect has seen to that)."""
    return b"multipart/form-data; boundary=" + body[2 : body.index(b"\r\n")]


def rename_model(body: bytes, name: str) -> bytes:
    """The same form with this value of `model`, which is added where it is missing."""
    delimiter = body[: body.index(b"\r\n")]
    part = b'%b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n' % (delimiter, name.encode())
    start = 0
    while 0 <= start < len(body):
        end = body.find(b"\r\n" + delimiter, start + len(delimiter))
        if end < 0:
            break
        headers = body[start : body.find(b"\r\n\r\n", start, end)].lower()
        if b'name="model"' in headers or b"name=model" in headers:
            return body[:start] + part + body[end + 2 :]
        start = end + 2
    return part + body
