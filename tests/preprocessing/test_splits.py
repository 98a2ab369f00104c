"""Which study goes where: splits by patient, time and site, and studies to shards."""

import datetime
import itertools

import pytest

from cmr_jax.errors import InputError
from preprocessing import splits, write
from preprocessing.deid import Pseudonyms
from preprocessing.process import Task
from preprocessing.study import FileScan, Report

PSEUDONYMS = Pseudonyms(b"0123456789abcdef")


def task(number: int, patient: str, date: str = "", site: str = "", column: str = "") -> Task:
    scan = FileScan("x", 1, 1, study_uid=f"1.2.{number}", patient_id=patient, study_date=date, institution=site)
    return Task(scan.study_uid, (scan,), Report("normal", "", (), column))


def by_number(rule: splits.Rule, tasks: list[Task]) -> dict[int, str]:
    found = splits.assign_all(rule, PSEUDONYMS, tasks)
    return {int(uid.split(".")[-1]): split for uid, split in found.items()}


def test_by_patient_the_shares_hold_and_a_patient_stays_whole_and_where_they_were():
    rule = splits.parse("patient", ["0.6", "0.1", "0.3"], [], [])
    tasks = [task(n, f"p{n // 3}") for n in range(3000)]
    found = by_number(rule, tasks)
    for n in range(0, 3000, 3):
        assert found[n] == found[n + 1] == found[n + 2]
    shares = [sum(s == name for s in found.values()) / 3000 for name in ("train", "val", "test")]
    assert [abs(a - b) < 0.04 for a, b in zip(shares, (0.6, 0.1, 0.3), strict=True)] == [True] * 3
    assert by_number(rule, tasks[:90]) == {n: found[n] for n in range(90)}


def test_by_time_a_patient_goes_where_the_latest_study_goes():
    rule = splits.parse("time", ["0.7", "0.1", "0.2"], ["2020-01-01", "2021-06-15"], [])
    tasks = [
        task(0, "early", "20191231"),
        task(1, "val", "20200101"),
        task(2, "last", "20210614"),
        task(3, "test", "20210615"),
        task(4, "both", "20150101"),
        task(5, "both", "20220101"),
        task(6, "nodate"),
        task(7, "both"),
    ]
    assert by_number(rule, tasks) == {0: "train", 1: "val", 2: "val", 3: "test", 4: "test", 5: "test"}
    assert splits.reason_to_leave_out(rule, tasks[6]) == splits.NO_DATE
    assert "2021-06-15" in rule.words()
    # Nothing that is trained on is later than the cut, whatever patients do.
    day = datetime.date(2018, 1, 1)
    many = [
        task(n, f"p{n * 7919 % 200}", (day + datetime.timedelta(n * 37 % 2000)).strftime("%Y%m%d")) for n in range(300)
    ]
    found = by_number(rule, many)
    assert max(t.first("study_date") for n, t in enumerate(many) if found[n] == "train") < "20200101"


def test_by_site_a_patient_ever_seen_at_a_test_site_is_a_test_patient():
    site = PSEUDONYMS.name("site", "North")
    rule = splits.parse("site", ["0.5", "0.5", "0"], [], [site])
    tasks = [task(n, f"p{n}", site="South") for n in range(100)]
    tasks += [task(100, "p1", site="North"), task(101, "q", site="North"), task(102, "r")]
    found = by_number(rule, tasks)
    assert found[100] == found[1] == found[101] == "test"
    assert 102 not in found and splits.reason_to_leave_out(rule, tasks[102]) == splits.NO_SITE
    rest = [found[n] for n in range(100) if n != 1]
    assert set(rest) == {"train", "val"} and 30 < rest.count("train") < 70
    assert site in rule.words() and "North" not in rule.words()


def test_sites_may_be_named_by_the_column_of_the_table_and_the_column_wins():
    rule = splits.parse("site", ["1", "0", "0"], [], ["west"])
    tasks = [task(0, "a", site="North", column="west"), task(1, "b", site="West"), task(2, "c", column="east")]
    rule = splits.with_pseudonyms(rule, PSEUDONYMS, tasks)
    assert rule.test_sites == (PSEUDONYMS.name("site", "west"),)
    assert by_number(rule, tasks) == {0: "test", 1: "train", 2: "train"}
    unknown = splits.parse("site", ["1", "0", "0"], [], ["nowhere"])
    with pytest.raises(InputError, match=PSEUDONYMS.name("site", "east")) as error:
        splits.assign_all(splits.with_pseudonyms(unknown, PSEUDONYMS, tasks), PSEUDONYMS, tasks)
    assert "North" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (("time", ["1", "0", "0"], [], []), "--split_dates"),
        (("time", ["1", "0", "0"], ["2021-01-01"], []), "--split_dates"),
        (("time", ["1", "0", "0"], ["2021-01-01", "2020-01-01"], []), "--split_dates"),
        (("time", ["1", "0", "0"], ["21-01-01", "22-01-01"], []), "--split_dates"),
        (("patient", ["1", "0", "0"], ["2021-01-01", "2022-01-01"], []), "--split_dates"),
        (("patient", ["1", "0", "0"], [], ["x"]), "--split_sites"),
        (("site", ["1", "0", "0"], [], []), "--split_sites"),
        (("site", ["0", "0", "1"], [], ["x"]), "--split_fractions"),
    ],
)
def test_rules_that_do_not_go_together_are_refused(arguments, flag):
    with pytest.raises(InputError, match=flag):
        splits.parse(*arguments)


def ids(count: int, first: int = 0) -> list[str]:
    return [PSEUDONYMS.name("study", str(n)) for n in range(first, first + count)]


def test_a_study_more_changes_its_own_shard_only():
    before = write.layout(ids(1000), 100)
    assert len(before) == 16
    assert list(itertools.chain(*before)) == sorted(ids(1000))
    assert max(map(len, before)) < 2 * 1000 / 16
    for extra in ids(20, 1000):
        after = write.layout([*ids(1000), extra], 100)
        changed = [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert len(changed) == 1 and extra in after[changed[0]]
        assert write.layout([i for i in itertools.chain(*after) if i != extra], 100) == before


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 20, 64])
def test_no_shard_is_empty_and_none_is_lost(count):
    shards = write.layout(ids(count), 1)
    assert all(shards) and list(itertools.chain(*shards)) == sorted(ids(count))
    assert len(shards) in (0, 1, 2, 4, 8, 16, 32, 64)
    assert count < 3 or len(shards) > 1
