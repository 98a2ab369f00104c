"""De-identification: keyed pseudonyms and the allow-listed attributes in their coarse form.

What is not named here or in `scan` is never copied, so it cannot leak.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
import sys
import time
from pathlib import Path

from cmr_jax.errors import InputError

ID_LENGTH = 16
_MAX_AGE = 90
_MIN_KEY_BYTES = 16
_MAX_KEY_BYTES = 1 << 12
_KEY_PATIENCE = 40
VENDORS = ("siemens", "ge", "philips", "canon", "toshiba", "hitachi", "uih", "united imaging")


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

    Raises InputError where it cannot be read, is too short, is no small regular file, is missing and must not be made,
    or stays readable for everybody.
    """
    if not path.exists(follow_symlinks=False):
        if not create:
            raise InputError(
                "--key_file does not exist, but --out already holds pseudonyms made with a key: give the key file that"
                " made them, or another --out"
            )
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:  # another task of an array was faster
            _wait_until_written(path)
            return load_key(path, create=False)
        except OSError as error:
            raise InputError(
                f"--key_file cannot be made ({error.strerror}): name a file in an existing folder"
            ) from None
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
    key = _read_key(path)
    if len(key) < _MIN_KEY_BYTES:
        raise InputError(f"--key_file holds fewer than {_MIN_KEY_BYTES} characters: remove it to have a new one made")
    return key


def _wait_until_written(path: Path) -> None:
    for _ in range(_KEY_PATIENCE):
        if path.stat().st_size:
            return
        time.sleep(0.05)


def _read_key(path: Path) -> bytes:
    """What the key file holds, after its mode was made 0600 where others could read or write it."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > _MAX_KEY_BYTES:
            raise InputError("--key_file is no key file: name a small file, or a new one to have a key made")
        if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            _make_private(path)
        return path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"--key_file cannot be read ({error.strerror})") from None


def _make_private(path: Path) -> None:
    try:
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        private = not path.stat().st_mode & stat.S_IRWXO
    except OSError:
        private = not path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP)  # a secret mounted for a group may be read
    if not private:
        raise InputError("--key_file can be read by everybody on this machine, and its mode cannot be changed: move it")
    print("--key_file could be read by others: its mode is 0600 now, or its group's alone", file=sys.stderr)


def sex(value: str) -> str:
    """F, M, O or ""."""
    return value.upper() if value.upper() in ("F", "M", "O") else ""


def vendor(manufacturer: str) -> str:
    """One of a few vendors' names, "other", or "" where the source does not say."""
    words = re.sub(r"[^a-z]+", " ", manufacturer.lower())
    if not words.strip():
        return ""
    return next((v for v in VENDORS if re.search(rf"\b{v}\b", words)), "other")


def _date(text: str) -> tuple[int, int, int] | None:
    match = re.fullmatch(r"(\d{4})(\d\d)(\d\d)", text.replace(".", "").replace("-", ""))
    parts = tuple(int(part) for part in match.groups()) if match else (0, 0, 0)
    return (parts[0], parts[1], parts[2]) if min(parts) > 0 else None


def day(text: str) -> str:
    """A DICOM date as `YYYYMMDD`; "" where it is none."""
    parts = _date(text)
    return "{:04d}{:02d}{:02d}".format(*parts) if parts else ""


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
