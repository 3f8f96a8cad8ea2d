"""Multipart forms of transcription requests."""


def form_content_type(body: bytes) -> bytes:
    """Return the Content-Type of a form. Its first line is the boundary; the dialect has checked that."""
    return b"multipart/form-data; boundary=" + body[2 : body.index(b"\r\n")]


def rename_model(body: bytes, name: str) -> bytes:
    """Return the form with `name` as its field `model`, which is added if missing."""
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
