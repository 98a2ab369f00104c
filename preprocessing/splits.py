"""Which split a patient belongs to: a function of key and patient alone, so it stays when others are added."""

from collections.abc import Sequence

from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing.deid import Pseudonyms

DOMAIN = "split"


def parse_fractions(values: Sequence[str]) -> tuple[float, ...]:
    """Shares of train, val, test. Raises InputError unless they are three, not negative, and add up to 1."""
    try:
        fractions = tuple(float(v) for v in values)
    except ValueError:
        fractions = ()
    good = len(fractions) == len(schema.SPLITS) and all(0 <= f <= 1 for f in fractions)
    if not good or abs(sum(fractions) - 1) > 1e-6:
        raise InputError("--split_fractions needs three shares (train,val,test) that add up to 1, as in 0.7,0.1,0.2")
    return fractions


def assign(pseudonyms: Pseudonyms, patient_id: str, fractions: Sequence[float]) -> str:
    """The split of the patient with this pseudonym."""
    place = pseudonyms.fraction(DOMAIN, patient_id)
    for name, fraction in zip(schema.SPLITS, fractions, strict=True):
        if place < fraction:
            return name
        place -= fraction
    return next(n for n, f in reversed(list(zip(schema.SPLITS, fractions, strict=True))) if f > 0)


def rule(fractions: Sequence[float]) -> str:
    """The rule in words, for the manifest."""
    shares = ", ".join(f"{n} {f:g}" for n, f in zip(schema.SPLITS, fractions, strict=True))
    return f"HMAC-SHA256 of the patient's pseudonym to [0, 1): {shares}"
