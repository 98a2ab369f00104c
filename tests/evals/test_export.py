import dataclasses
import json

import numpy as np
import pytest

from cmr_jax.errors import InputError
from cmr_jax.evals import export
from tests.evals.synthetic import embeddings, relabel


def test_what_is_saved_is_what_is_loaded(tmp_path):
    source = relabel(embeddings(n=20), note=['say "a, b"\nç'] * 20)
    export.save(source, tmp_path / "new" / "e")
    found = export.load(tmp_path / "new" / "e")
    np.testing.assert_array_equal(found.image_NE, source.image_NE)
    np.testing.assert_array_equal(found.text_NE, source.text_NE)
    assert found.ids == source.ids and found.notes == ()
    assert found.manifest == {"checkpoint_step": 7, "schema": 1, "n": 20}
    assert found.provenance()["checkpoint_step"] == "7" and found.provenance()["config_sha256"] == "unknown"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["e"]


def test_embeddings_are_replaced_and_other_folders_are_left_alone(tmp_path):
    export.save(embeddings(n=20), tmp_path / "e")
    export.save(embeddings(n=30), tmp_path / "e")
    assert len(export.load(tmp_path / "e")) == 30
    (tmp_path / "e" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        export.save(embeddings(n=20), tmp_path / "e")
    assert len(export.load(tmp_path / "e")) == 30
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_a_save_that_fails_leaves_what_stood_there(tmp_path):
    export.save(embeddings(n=20), tmp_path / "e")
    broken = dataclasses.replace(embeddings(n=20), manifest={"thing": object()})
    with pytest.raises(TypeError):
        export.save(broken, tmp_path / "e")
    assert len(export.load(tmp_path / "e")) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_the_least_folder_that_the_interface_asks_for_is_enough(tmp_path):
    np.save(tmp_path / "image.npy", np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.save(tmp_path / "text.npy", np.array([[1, 0], [0, 1]], np.float16))
    (tmp_path / "ids.csv").write_text("row,study_id,patient_id,split,report_hash\n0,a,,test,\n1,b,p,test,h\n")
    (tmp_path / "manifest.json").write_text('{"schema": 1, "n": 2}')
    found = export.load(tmp_path)
    np.testing.assert_allclose(found.image_NE, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert found.image_NE.dtype == found.text_NE.dtype == np.float32
    assert found.patients() == ["row 0", "p"] and found.reports() == ["row 0", "h"]
    assert found.notes == (
        "1 of 2 image embeddings were not of unit length and were scaled to it",
        "1 of 2 image embeddings are all zeros: they tie with everything",
    )


def test_several_texts_a_study_are_saved_and_taken(tmp_path):
    source = embeddings(n=20)
    studies = np.array([*range(20), 3, 3])
    source = dataclasses.replace(source, text_NE=source.text_NE[studies], text_studies=studies)
    export.save(source, tmp_path / "e")
    found = export.load(tmp_path / "e")
    assert found.text_studies is not None and found.text_studies.tolist() == studies.tolist()
    some = found.take(np.array([5, 3]))
    assert some.text_studies is not None and some.text_studies.tolist() == [1, 0, 1, 1]
    np.testing.assert_array_equal(some.text_NE, source.text_NE[[3, 5, 20, 21]])
    (tmp_path / "e" / "texts.csv").write_text("row,study_id\n" + "".join(f"{row},study0\n" for row in range(22)))
    with pytest.raises(InputError, match="gives no text to some studies"):
        export.load(tmp_path / "e")
    (tmp_path / "e" / "texts.csv").write_text("row,study_id\n0,nobody\n")
    with pytest.raises(InputError, match="names 1 studies"):
        export.load(tmp_path / "e")


def test_rows_of_a_split(tmp_path):
    source = embeddings(n=20)
    assert source.rows("val").tolist() == [12, 13, 14]
    assert source.rows("all").tolist() == list(range(20))
    assert source.take(source.rows("val")).ids["study_id"] == ["study12", "study13", "study14"]


def break_file(name, content):
    def apply(folder):
        (folder / name).write_bytes(content)

    return apply


def break_array(name, change):
    def apply(folder):
        np.save(folder / name, change(np.load(folder / name)))

    return apply


def poison(rows):
    rows[[2, 5]] = np.nan
    return rows


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda folder: (folder / "text.npy").unlink(), "has no text.npy"),
        (break_file("image.npy", b"not an array"), "image.npy is not a NumPy array file"),
        (break_array("image.npy", poison), r"image embeddings hold NaN.* 2 of 20 rows.*: 2, 5;"),
        (break_array("image.npy", lambda rows: rows[:10]), "must be study i"),
        (break_array("image.npy", lambda rows: (rows * 100).astype(int)), "write the embeddings as float32"),
        (break_array("text.npy", lambda rows: rows.astype(np.float64) * 1e300), "text embeddings hold NaN or infinity"),
        (break_file("manifest.json", b"{"), "manifest.json is not JSON"),
        (break_file("manifest.json", b'{"schema": 9, "n": 20}'), '"schema": 1'),
        (break_file("manifest.json", b'{"schema": 1, "n": 21}'), "n = 21"),
        (break_file("ids.csv", b""), "ids.csv is empty"),
        (break_file("ids.csv", b"row,study_id\n0,a\n"), "no column patient_id, split, report_hash"),
        (
            break_file("ids.csv", b"row,study_id,patient_id,split,report_hash\n0,a,b,test,h\n"),
            "1 rows and image.npy 20",
        ),
        (break_file("ids.csv", b"row,study_id,patient_id,split,report_hash\n0,a\n"), "line 2 of ids.csv"),
        (break_file("ids.csv", b"row,row\n0,0\n"), "twice"),
        (break_file("ids.csv", b"\xff\xfe\x00"), "UTF-8"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path, apply, message):
    export.save(embeddings(n=20), tmp_path / "e")
    apply(tmp_path / "e")
    with pytest.raises(InputError, match=message) as caught:
        export.load(tmp_path / "e")
    assert "\n" not in str(caught.value)


def test_rows_out_of_order_are_refused(tmp_path):
    source = embeddings(n=3)
    with pytest.raises(InputError, match="must count 0, 1, 2"):
        export.save(relabel(source, row=["0", "2", "1"]), tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no folder of embeddings"):
        export.load(tmp_path / "nowhere")


def test_a_route_to_the_embeddings_must_be_given():
    with pytest.raises(InputError, match="give --embeddings"):
        export.obtain(embeddings=None, workdir="w", checkpoint=None, data=None, splits=("test",), step=None)


def test_the_manifest_on_disk_is_json(tmp_path):
    export.save(embeddings(n=4), tmp_path / "e")
    assert json.loads((tmp_path / "e" / "manifest.json").read_text())["n"] == 4
