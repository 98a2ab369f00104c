"""De-identification: keyed pseudonyms, the allow-listed attributes in their coarse form, and the report scrubber.

What is not named here or in `scan` is never copied, so it cannot leak.
"""

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from cmr_jax.errors import InputError

ID_LENGTH = 16
_MAX_AGE = 90
_MIN_KEY_BYTES = 16
_VENDORS = ("siemens", "ge", "philips", "canon", "toshiba", "hitachi", "uih", "united imaging")


class Pseudonyms:
    """HMAC-SHA256 names under one secret key (RFC 2104), one domain a kind of thing."""

    def __init__(self, key: bytes):
        self._key = key

    def digest(self, domain: str, value: str) -> bytes:
        return hmac.new(self._key, domain.encode() + b"\0" + os.fsencode(value), hashlib.sha256).digest()

    def name(self, domain: str, value: str) -> str:
        """A 16-digit hexadecimal pseudonym."""
        return self.digest(domain, value).hex()[:ID_LENGTH]

    def fraction(self, domain: str, value: str) -> float:
        """A number in [0, 1) that depends on key, domain and value only."""
        return int.from_bytes(self.digest(domain, value)[:7], "big") / (1 << 56)

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without revealing them."""
        return self.name("fingerprint", "")


def load_key(path: Path, *, create: bool) -> bytes:
    """Reads the key file; makes it, mode 0600, where it is missing and `create` allows.

    Raises InputError where it cannot be read, is too short, or is missing and must not be made.
    """
    if not path.exists(follow_symlinks=False):
        if not create:
            raise InputError(
                "--key_file does not exist, but --out already holds pseudonyms made with a key: give the key file that"
                " made them, or another --out"
            )
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return load_key(path, create=False)  # another task of an array was faster
        except OSError as error:
            raise InputError(
                f"--key_file cannot be made ({error.strerror}): name a file in an existing folder"
            ) from None
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"--key_file cannot be read ({error.strerror})") from None
    if len(key) < _MIN_KEY_BYTES:
        raise InputError(f"--key_file holds fewer than {_MIN_KEY_BYTES} characters: remove it to have a new one made")
    return key


def sex(value: str) -> str:
    """F, M, O or ""."""
    return value.upper() if value.upper() in ("F", "M", "O") else ""


def vendor(manufacturer: str) -> str:
    """One of a few vendors' names, "other", or "" where the source does not say."""
    words = re.sub(r"[^a-z]+", " ", manufacturer.lower())
    if not words.strip():
        return ""
    return next((v for v in _VENDORS if re.search(rf"\b{v}\b", words)), "other")


def _date(text: str) -> tuple[int, int, int] | None:
    match = re.fullmatch(r"(\d{4})(\d\d)(\d\d)", text.replace(".", "").replace("-", ""))
    parts = tuple(int(part) for part in match.groups()) if match else (0, 0, 0)
    return (parts[0], parts[1], parts[2]) if min(parts) > 0 else None


def age(patient_age: str, birth_date: str, study_date: str) -> str:
    """Whole years, capped at 90, from PatientAge (`053Y`) or else the dates (`YYYYMMDD`); "" where neither says."""
    match = re.fullmatch(r"(\d{1,3})([YMWD])", patient_age.upper())
    if match:
        years = int(match[1]) // {"Y": 1, "M": 12, "W": 52, "D": 365}[match[2]]
        return str(min(years, _MAX_AGE))
    birth, study = _date(birth_date), _date(study_date)
    if birth is None or study is None:
        return ""
    years = study[0] - birth[0] - (study[1:] < birth[1:])
    return str(min(years, _MAX_AGE)) if 0 <= years < 130 else ""
