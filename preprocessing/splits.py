"""Which split a patient belongs to: by key and patient alone, by the date of the study, or by the site.

Whatever the rule, a patient stands on one side only.
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing.deid import Pseudonyms
from preprocessing.process import Task

DOMAIN = "split"
KINDS = ("patient", "time", "site")
GIVEN = "given"
NO_DATE, NO_SITE = "study without a date (--split_by time)", "study without a site (--split_by site)"


@dataclasses.dataclass(frozen=True)
class Rule:
    """How studies are told apart.

    patient: by HMAC, in the shares of `fractions` (train, val, test).
    time:    before `dates[0]` train, before `dates[1]` val, else test (`YYYYMMDD`); a patient goes where the latest
             study goes, so nothing of a test patient and nothing later than the cut is trained on.
    site:    patients who were ever seen at one of `test_sites` (pseudonyms) test; the others train or val by HMAC, in
             the shares of `fractions` without the test's.
    given:   as `given` says, (patient, split) by patient: the official split of a public benchmark.
    """

    by: str = "patient"
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2)
    dates: tuple[str, ...] = ()
    test_sites: tuple[str, ...] = ()
    given: tuple[tuple[str, str], ...] = ()

    def words(self) -> str:
        """For the manifest."""
        if self.by == GIVEN:
            return "as the publisher of the benchmark gives it"
        if self.by == "time":
            first, second = ("-".join((d[:4], d[4:6], d[6:])) for d in self.dates)
            return f"date of the patient's latest study: train before {first}, val before {second}, then test"
        fractions = _without_test(self.fractions) if self.by == "site" else self.fractions
        shares = ", ".join(f"{n} {f:g}" for n, f in zip(schema.SPLITS, fractions, strict=True))
        by_hmac = f"HMAC-SHA256 of the patient's pseudonym to [0, 1): {shares}"
        if self.by == "site":
            return f"test: patients ever seen at site {', '.join(self.test_sites)}; else {by_hmac}"
        return by_hmac


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


def parse(by: str, fractions: Sequence[str], dates: Sequence[str], test_sites: Sequence[str]) -> Rule:
    """The rule that the flags ask for. Raises InputError where they do not go together."""
    shares = parse_fractions(fractions)
    if bool(dates) != (by == "time"):
        raise InputError("--split_dates goes with --split_by time: the first day of val and that of test")
    if bool(test_sites) != (by == "site"):
        raise InputError("--split_sites goes with --split_by site: the sites of the test split")
    days = tuple(re.sub(r"\D", "", text) for text in dates)
    if by == "time" and (len(days) != 2 or any(len(d) != 8 for d in days) or days[0] > days[1]):
        raise InputError("--split_dates needs two days in order, as in 2020-01-01,2021-01-01")
    if by == "site" and sum(shares[:2]) == 0:
        raise InputError("--split_by site needs a share of train in --split_fractions")
    return Rule(by, shares, days, tuple(sorted(test_sites)))


def assign(pseudonyms: Pseudonyms, patient_id: str, fractions: Sequence[float]) -> str:
    """The split of the patient with this pseudonym, by HMAC."""
    place = pseudonyms.fraction(DOMAIN, patient_id)
    for name, fraction in zip(schema.SPLITS, fractions, strict=True):
        if place < fraction:
            return name
        place -= fraction
    return next(n for n, f in reversed(list(zip(schema.SPLITS, fractions, strict=True))) if f > 0)


def assign_all(rule: Rule, pseudonyms: Pseudonyms, tasks: Iterable[Task]) -> dict[str, str]:
    """`study_uid` to split, for every task that has one: without a date (or site) no side is safe.

    Raises InputError where a site of the rule is no site of the tasks.
    """
    tasks = list(tasks)
    of_patient: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        of_patient[task.patient].append(task)
    if rule.by == "site":
        _check_sites(rule, pseudonyms, tasks)
    found = {}
    given = dict(rule.given)
    for patient, theirs in of_patient.items():
        if rule.by == GIVEN:
            found |= {task.study_uid: given[patient] for task in theirs}
            continue
        split = _split_of(rule, pseudonyms, pseudonyms.name("patient", patient), theirs)
        found |= {task.study_uid: split for task in theirs if not reason_to_leave_out(rule, task)}
    return found


def with_pseudonyms(rule: Rule, pseudonyms: Pseudonyms, tasks: Iterable[Task]) -> Rule:
    """`rule` with sites that were given by their name in the table as pseudonyms."""
    names = {task.report.site for task in tasks if task.report.site}
    sites = (pseudonyms.name("site", site) if site in names else site for site in rule.test_sites)
    return dataclasses.replace(rule, test_sites=tuple(sorted(sites)))


def reason_to_leave_out(rule: Rule, task: Task) -> str:
    """Why the rule has no side for this study; "" where it has one."""
    if rule.by == "time" and not task.first("study_date"):
        return NO_DATE
    return NO_SITE if rule.by == "site" and not task.site else ""


def _split_of(rule: Rule, pseudonyms: Pseudonyms, patient_id: str, tasks: list[Task]) -> str:
    if rule.by == "time":
        latest = max(task.first("study_date") for task in tasks)
        return schema.SPLITS[sum(day <= latest for day in rule.dates)]
    if rule.by == "patient":
        return assign(pseudonyms, patient_id, rule.fractions)
    if any(pseudonyms.name("site", task.site) in rule.test_sites for task in tasks if task.site):
        return "test"
    return assign(pseudonyms, patient_id, _without_test(rule.fractions))


def _without_test(fractions: Sequence[float]) -> tuple[float, ...]:
    train, val, _ = fractions
    return (train / (train + val), val / (train + val), 0.0)


def _check_sites(rule: Rule, pseudonyms: Pseudonyms, tasks: Sequence[Task]) -> None:
    sites = sorted({pseudonyms.name("site", task.site) for task in tasks if task.site})
    for site in rule.test_sites:
        if site not in sites:
            raise InputError(
                "--split_sites: no study comes from one of the sites named there; the sites are "
                + (", ".join(sites) or "unknown: name a column of --reports as --site_column")
            )
