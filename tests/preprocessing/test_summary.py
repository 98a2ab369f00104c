"""What people read: counts that add up, and nothing but masked words."""

import re

import pytest

from cmr_jax.config import DataConfig
from cmr_jax.data import schema
from preprocessing import summary, write
from tests.preprocessing.test_run import rows
from tests.preprocessing.tiny_dicom import coded, mr_dataset, save


def tables() -> dict[str, list[dict[str, str]]]:
    files = (
        [("used", "")] * 90 + [("ignored", f"reason {n % 12}") for n in range(24)] + [("rejected", 'a "bad" | one')] * 3
    )
    series = [
        {"used": "yes", "view": "cine_sax", "description": "cine sax", "spacing": "1.5x1.5", "level_mean": "0.25"}
    ] * 5
    series += [{"used": "yes", "view": "unknown", "description": text} for text in ("? stir", "? stir", "")]
    series += [{"used": "no", "view": "", "reason": "slice lacks phases", "description": "cine"}]
    splits = ("train", "train", "test")
    studies = [
        {"study_id": f"s{n}", "patient_id": f"p{n // 2}", "split": splits[n // 2], "group": "ab"[n % 2]}
        for n in range(6)
    ]
    return {
        "files.csv": [{"status": status, "reason": reason} for status, reason in files],
        "series.csv": series,
        "studies.csv": studies,
    }


CARRIED = {"studies_without_report": 4, "studies_removed": 1, "studies_without_side": 0, "studies_put_aside": 2}


def test_counts_come_from_the_tables_and_add_up():
    found = summary.counts(tables(), CARRIED)
    assert found["files_seen"] == 117 == found["files_used"] + found["files_ignored"] + found["files_rejected"]
    assert (found["studies_seen"], found["studies"], found["patients"], found["series"]) == (13, 6, 3, 8)


def test_the_boxes_that_leave_a_box_of_the_flow_chart_add_up_to_it():
    found = summary.counts(tables(), CARRIED)
    chart = summary.flow_chart(found, tables()["files.csv"], {"train": 4, "val": 0, "test": 2})
    number = {m[1]: int(m[2]) for m in re.finditer(r'(\w+)\["(\d+) ', chart)}
    for box in ("files", "seen", "studies"):
        assert number[box] == sum(number[m[1]] for m in re.finditer(rf"{box} --> (\w+)", chart))
    ignored = re.search(r'ignored\["24 ignored<br>(.*)"\]', chart)
    assert ignored and sum(int(part.split()[0]) for part in ignored[1].split("<br>")) == 24
    assert "other reasons" in ignored[1] and "'bad'" in chart and "val" not in number


def test_the_page_shows_labels_by_split_spacing_and_unknown_descriptions():
    found = tables()
    manifest = {"counts": summary.counts(found, CARRIED), "split_rule": "by hand", "label_names": ["group"]}
    page = summary.page(manifest, found)
    for line in (
        "| group | a | 2 | 0 | 1 |",
        "| group | (not said) | 0 | 0 | 0 |",
        "| ? stir | 2 |",
        "| (none) | 1 |",
        "| rejected | a \"bad\" / one | 3 |",
        "Rule: by hand.",
    ):  # fmt: skip
        assert line in page, line
    assert re.search(r"\| cine_sax \| 5 \| 1.5 \|", page)


def test_a_label_of_many_values_is_a_range():
    studies = [{"split": "train", "lvef": f"{n}.5", "scanner": f"s{n}"} for n in range(8, 48)]
    manifest = {"counts": summary.counts({**tables(), "studies.csv": [{**s, "patient_id": "p"} for s in studies]}, {})}
    manifest |= {"split_rule": "", "label_names": ["lvef", "scanner"]}
    page = summary.page(manifest, {**tables(), "studies.csv": [{**s, "patient_id": "p"} for s in studies]})
    assert "| lvef | 40 values (8.5 to 47.5) | 40 | 0 | 0 |" in page  # by alphabet 10.5 is the first and 9.5 the last
    assert "| scanner | 40 values (s10 to s9) | 40 | 0 | 0 |" in page


def test_the_page_says_how_long_the_reports_are_that_have_a_section():
    studies = [dict.fromkeys(schema.SECTIONS, "0") | {"study_id": f"s{n}", "impression": str(n)} for n in range(21)]
    studies[20]["findings"] = "1500"
    manifest = {"counts": summary.counts(tables(), CARRIED), "split_rule": "by hand", "label_names": []}
    page = summary.page(manifest, tables() | {summary.TOKENS: studies})
    for line in (
        "| indication | 0 | 0 [0, 0] | 0 |",
        "| findings | 1 | 1500 [1500, 1500] | 1500 |",
        "| impression | 20 | 10 [2, 19] | 20 |",
        "| findings + impression | 20 | 10 [2, 94] | 1520 |",
    ):  # fmt: skip
        assert line in page, line
    assert "## Length of the text" in page and "Not known." not in page
    assert f"| {' + '.join(DataConfig().sections)} |" in page  # what a model reads unless told otherwise
    assert "Not known." in summary.page(manifest, tables())  # a dataset that is older than the table


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    from tests.preprocessing.tiny_dicom import Cohort

    cohort = Cohort(tmp_path_factory.mktemp("described"), 3)
    cohort.key.write_text("0123456789abcdef0123456789abcdef")
    cohort.key.chmod(0o600)
    for n in range(3):
        uid = f"1.2.840.99.{n + 1}"
        extra = mr_dataset(
            coded(0, n), StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.9", SeriesNumber=9, PatientID=f"MRN77000{n}",
            SeriesDescription="T1 Quagmire special", EchoTime=9.0, ImageType=["DERIVED", "PRIMARY", "OTHER"],
        )  # fmt: skip
        save(extra, cohort.dicom / f"MRN77000{n}" / "extra.dcm")
    done = cohort.run("out", "--split_fractions=1,0,0")
    assert done.returncode == 0, done.stderr
    return cohort


def test_the_preview_has_a_line_a_series_with_masked_words_under_a_key_of_its_own(described):
    done = described.run("nothing", "--dry_run")
    lines = [line.split() for line in done.stdout.splitlines() if re.match(r"[0-9a-f]{16} ", line)]
    assert len(lines) == 6 and len({line[0] for line in lines}) == 3
    assert sum(line[1:5] == ["t1", "?", "?", "unknown"] for line in lines) == 3
    assert sum("3x6" in line and "1.5x1.5" in line and "ge" in line for line in lines) == 3
    assert "Quagmire" not in done.stdout and "special" not in done.stdout
    published = {row["study_id"] for row in rows(described.root / "out" / "studies.csv")}
    assert not published & {line[0] for line in lines}
    again = described.run("nothing", "--dry_run")
    assert again.stdout != done.stdout  # a throw-away key


def test_series_csv_holds_masked_descriptions_and_the_brightness_of_the_frames(described):
    table = rows(described.root / "out" / "series.csv")
    assert {row["description"] for row in table} == {"", "t1 ? ?"}
    from cmr_jax.data import records

    split = records.Split(described.root / "out", "train")
    means = {}
    for row in range(len(split)):
        example = split[row]
        for name, frames in zip(example["series/id"], schema.split_series(example), strict=True):
            means[name] = frames.reshape(-1, 32, 32)[:: 2 if frames.shape[1] > 1 else 1].mean() / 255
    assert {row["series_id"]: row["level_mean"] for row in table} == {n: f"{m:.3f}" for n, m in means.items()}


def test_tokens_csv_holds_the_length_of_every_section(described):
    from cmr_jax.data import records

    split = records.Split(described.root / "out", "train")
    examples = {example["study_id"]: example for example in map(split.__getitem__, range(len(split)))}
    table = rows(described.root / "out" / "tokens.csv")
    assert [row["study_id"] for row in table] == sorted(examples)
    for row in table:
        tokens = {name: len(examples[row["study_id"]][f"tokens/{name}"]) for name in schema.SECTIONS}
        assert {name: int(row[name]) for name in schema.SECTIONS} == tokens and any(tokens.values())


def test_the_summary_is_a_function_of_the_tables(described):
    from cmr_jax.data import records

    out = described.root / "out"
    names = ("files.csv", "series.csv", "studies.csv", summary.TOKENS)
    found = {name: write.read_table(out / name)[1] for name in names}
    manifest = records.load_manifest(out)
    counts = summary.counts(found, manifest["counts"])
    assert counts == manifest["counts"]
    assert summary.page({**manifest, "counts": counts}, found) == (out / "summary.md").read_text()
    assert "| t1 ? ? | 3 |" in (out / "summary.md").read_text()
