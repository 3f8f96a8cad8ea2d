"""Types of settings: sizes, durations, addresses, flags.

Values from a file must have the type in YAML; values from a variable are text, which is parsed as the key's type.
Errors are predicates, as in `ConfigError.message`.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from penstock.config.located_values import RawText
from penstock.config.server_address import parse_address

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|k|m|g|t|ki|mi|gi|ti)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_ORIGIN = re.compile(r"[a-z*][a-z0-9+.*-]*://[^\s/?#@\\]*/?")
_MIN_PREFIX_LENGTH = 22
_SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _parse_flag(value: Any) -> Any:
    if not isinstance(value, RawText):
        return value
    try:
        return _FLAGS[value.strip().lower()]
    except KeyError:
        raise ValueError("must be true or false") from None


def _parse_integer(value: Any) -> Any:
    if not isinstance(value, RawText):
        return value
    if not re.fullmatch(r"[+-]?[0-9]+", value.strip()) or len(value) > 30:
        raise ValueError("must be an integer")
    return int(value)


def _parse_number(value: Any) -> Any:
    if not isinstance(value, RawText):
        return value
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", value.strip()):
        raise ValueError("must be a number")
    return float(value)


def _parse_size(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not (match := _SIZE.fullmatch(value.strip())):
        raise ValueError("must be a size, such as 1048576 or 32MiB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _parse_seconds(value: Any) -> Any:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip().lower())):
        return float(match[1]) * _SECONDS[match[2]]
    if isinstance(value, str) and not isinstance(value, RawText):
        raise ValueError("must be a number of seconds, or a duration such as 90s or 10m")
    return _parse_number(value)


def _check_url(value: str) -> str:
    parse_address(value, bare_port=80)
    return value


def _normalize_origin(value: str) -> str:
    origin = value.strip().lower()
    if origin in ("*", "null"):
        return origin
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(
            'must be an origin, such as https://chat.example.com, a pattern such as chrome-extension://*, or "*"'
        )
    return origin if origin.endswith("://") else origin.rstrip("/")


def _normalize_host_name(value: str) -> str:
    if not re.fullmatch(r"[^\s/:@]+|\[[0-9a-fA-F:.]+\]", value):
        raise ValueError("must be a host name without scheme and port, such as models.example.com")
    return value.lower()


def _normalize_subnet(value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value.strip(), strict=False)
    except ValueError:
        raise ValueError("must be a range of IPv4 addresses, such as 192.168.178.0/24") from None
    if not network.is_private:
        raise ValueError("must be a range of private addresses; other addresses are never scanned")
    if network.prefixlen < _MIN_PREFIX_LENGTH:
        raise ValueError(f"is too large to scan; the largest range is a /{_MIN_PREFIX_LENGTH} (1022 addresses)")
    return str(network)


def _check_server_name(value: str) -> str:
    if not _SERVER_NAME.fullmatch(value):
        raise ValueError("must be a name of 1 to 64 Latin letters, digits, dots, dashes and underscores")
    return value


def _require_text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _require_header_safe(value: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("must be printable ASCII without spaces")
    return value


def _parse_path(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("must be a path")
    return Path(value).expanduser()


def _parse_trust(value: Any) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, RawText) and value.strip().lower() in _FLAGS:
        return _FLAGS[value.strip().lower()]
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be true, false, or the path of a file with certificates to trust")
    path = Path(value).expanduser()
    if not path.is_file():
        raise ValueError("must be true, false, or the path of an existing file with certificates to trust")
    return str(path)


def _to_upper_case(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _to_lower_case(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Flag = Annotated[bool, BeforeValidator(_parse_flag)]
Integer = Annotated[int, BeforeValidator(_parse_integer)]
Number = Annotated[float, BeforeValidator(_parse_number)]
Size = Annotated[int, BeforeValidator(_parse_size), Field(ge=1)]
Seconds = Annotated[float, BeforeValidator(_parse_seconds), Field(ge=0)]
PositiveSeconds = Annotated[float, BeforeValidator(_parse_seconds), Field(gt=0)]
Url = Annotated[str, AfterValidator(_check_url)]
Origin = Annotated[str, AfterValidator(_normalize_origin)]
HostName = Annotated[str, AfterValidator(_normalize_host_name)]
Subnet = Annotated[str, AfterValidator(_normalize_subnet)]
ServerName = Annotated[str, AfterValidator(_check_server_name)]
Name = Annotated[str, AfterValidator(_require_text)]
Secret = Annotated[str, AfterValidator(_require_header_safe)]
FilePath = Annotated[Path, PlainValidator(_parse_path)]
Trust = Annotated[bool | str, PlainValidator(_parse_trust)]
UpperCase = BeforeValidator(_to_upper_case)
LowerCase = BeforeValidator(_to_lower_case)
