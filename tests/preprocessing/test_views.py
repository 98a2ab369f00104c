import dataclasses
import itertools

import numpy as np
import pytest

from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing import assemble, pixels, views
from preprocessing.study import Series
from tests.preprocessing.test_assemble import frame
from tests.preprocessing.tiny_dicom import SAX, orthonormal


@pytest.mark.parametrize(
    ("description", "view"),
    [
        ("SCOUT", "scout"),
        ("Localizer_sax", "scout"),
        ("3plane loc", "scout"),
        ("CINESAX", "cine_sax"),
        ("cine_trufi_SAX_b12", "cine_sax"),
        ("BTFE_BH_SA", "cine_sax"),
        ("Short Axis stack", "cine_sax"),
        ("cine 4CH", "cine_4ch"),
        ("FIESTA_4-chamber", "cine_4ch"),
        ("HLA", "cine_4ch"),
        ("2ch", "cine_2ch"),
        ("TWO CHAMBER", "cine_2ch"),
        ("sBTFE_3CH_BH", "cine_3ch"),
        ("cine LAX", "cine_lax"),
        ("cine_trufi_retro", "unknown"),
        ("Saline flush", "unknown"),
        ("", "unknown"),
    ],
)
def test_descriptions(description, view):
    found, rule = views.from_description(description, phases=20)
    assert found == view
    assert bool(rule) == (view != "unknown")


@pytest.mark.parametrize("description", ["PSIR_SAX", "T1_MOLLI_SAX", "LGE 4CH", "PERF_SAX", "2CH late enhancement"])
def test_other_techniques_are_no_cines(description):
    assert views.from_description(description, phases=20) == ("unknown", "description:not_cine")


def test_a_still_is_no_cine():
    assert views.from_description("SAX", phases=1) == ("unknown", "description:single_phase")


def test_the_site_table_goes_first(tmp_path):
    path = tmp_path / "views.csv"
    path.write_text("pattern,view\n^wonky,cine_3ch\nsax,cine_2ch\n")
    table = views.read_site_table(path)
    assert views.from_description("My SAX", 20, table) == ("cine_2ch", "site:2")
    assert views.from_description("Wonky plane", 1, table) == ("cine_3ch", "site:1")


@pytest.mark.parametrize(
    "text", ["", "pattern,view\n", "pattern,view\n(,cine_sax\n", "pattern,view\nsax,banana\n", "a,b\n1,2\n"]
)
def test_a_bad_site_table_is_an_input_error(tmp_path, text):
    (tmp_path / "views.csv").write_text(text)
    with pytest.raises(InputError, match="--view_table"):
        views.read_site_table(tmp_path / "views.csv")


def test_every_rule_names_a_view_of_the_schema():
    assert {view for view, _ in views._VIEW_WORDS} <= set(schema.VIEWS)


def oriented(right, down, *, slices=1, phases=10, description="", uid="1.9") -> Series:
    """A series in a given plane, slices along its normal."""
    right, down = orthonormal([*right, *down])
    n = np.cross(right, down)
    return Series(
        [
            [
                dataclasses.replace(
                    frame(s, p, series_uid=uid, description=description),
                    right=tuple(map(float, right)),
                    down=tuple(map(float, down)),
                    position=tuple(map(float, -10.0 * s * n)),
                )
                for p in range(phases)
            ]
            for s in range(slices)
        ],
        phase_key="TriggerTime",
    )


SAX_PLANE = (SAX[:3], SAX[3:])
LONG_PLANE = ((0.85, 0.13, -0.3), (0.0, 0.84, 0.35))


def test_geometry_speaks_where_descriptions_are_silent():
    stack, other = oriented(*SAX_PLANE, slices=8), oriented(*SAX_PLANE, slices=3)
    long_axis = oriented(*LONG_PLANE)
    still = oriented((1, 0, 0), (0, 1, 0), phases=1)
    axial_cine = oriented((1, 0, 0), (0, 1, 0), slices=12)
    series = [other, long_axis, still, stack, axial_cine]
    views.label(series)
    assert (stack.view, stack.view_rule) == ("cine_sax", "geometry:largest_parallel_stack")
    assert (long_axis.view, long_axis.view_rule) == ("cine_lax", "geometry:across_short_axis")
    assert (still.view, still.view_rule) == ("scout", "geometry:orthogonal_still")
    assert (other.view, axial_cine.view, axial_cine.view_rule) == ("unknown", "unknown", "none")


def test_a_described_stack_leaves_the_rest_to_be_long_axis():
    stack, long_axis = oriented(*SAX_PLANE, slices=2, description="SAX"), oriented(*LONG_PLANE)
    views.label([stack, long_axis])
    assert stack.view_rule == "description:cine_sax"
    assert long_axis.view == "cine_lax"


@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
def test_a_stack_stored_in_any_of_eight_ways_is_shown_and_ordered_alike(flips):
    """The pixel grid is turned and its geometry with it; what is shown must not change, nor base to apex."""
    image = np.arange(30.0).reshape(5, 6)
    right, down = orthonormal(SAX)
    stored, (r, d) = image, (right, down)
    transpose, flip_rows, flip_cols = flips
    if flip_cols:
        stored, r = stored[:, ::-1], -r
    if flip_rows:
        stored, d = stored[::-1], -d
    if transpose:
        stored, (r, d) = stored.T, (d, r)
    series = oriented(r, d, slices=3)
    base = -np.cross(right, down)  # slice 0 of `oriented` is the farthest along its own normal
    for number, one_slice in enumerate(series.frames):
        one_slice[:] = [dataclasses.replace(f, position=tuple(map(float, 10.0 * number * base))) for f in one_slice]
    series.frames.reverse()
    views.label([series])
    np.testing.assert_array_equal(pixels.turn(stored[None], series.orientation)[0], image)
    assert [one_slice[0].file[0] for one_slice in series.frames] == ["0", "1", "2"]
    np.testing.assert_allclose(series.slice_position_mm, [0, 10, 20], atol=1e-4)


def test_short_axis_is_seen_from_the_apex():
    """Right: the patient's left and back; down: the feet; slices from base (right, back, up) to apex."""
    series = oriented(*SAX_PLANE, slices=3)
    views.label([series])
    right, down = assemble.turned(series.first, series.orientation)
    assert right @ (1, 1, 0) > 1 and down @ (0, 0, -1) > 0.8
    first, last = (np.array(one[0].position) for one in (series.frames[0], series.frames[-1]))
    assert (last - first) @ (1, -1, -1) > 0


@pytest.mark.parametrize(
    ("right", "down", "shown"),
    [
        ((-1, 0, 0), (0, -1, 0), ((1, 0, 0), (0, 1, 0))),  # axial
        ((0, 0, 1), (1, 0, 0), ((1, 0, 0), (0, 0, -1))),  # coronal
        ((0, 0, -1), (0, -1, 0), ((0, 1, 0), (0, 0, -1))),  # sagittal
    ],
)
def test_plain_planes_follow_the_radiological_convention(right, down, shown):
    still = oriented(right, down, phases=1)
    views.label([still])
    np.testing.assert_allclose(assemble.turned(still.first, still.orientation), shown, atol=1e-9)


@pytest.mark.parametrize(
    ("plane", "like"), [(LONG_PLANE, "cine_4ch"), (((-0.65, 0.55, 0.5), (-0.35, 0.3, -0.84)), "cine_2ch")]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_long_axis_known_by_geometry_alone_is_held_like_one_with_a_name(plane, like, sign):
    right, down = (tuple(sign * v for v in direction) for direction in plane)
    unnamed, named = oriented(right, down), oriented(right, down, description=like)
    views.label([oriented(*SAX_PLANE, slices=4, description="SAX"), unnamed, named])
    assert (unnamed.view, named.view) == ("cine_lax", like)
    assert unnamed.orientation == named.orientation


def test_a_shown_description_hides_words_that_may_be_names():
    assert views.shown_description("cine_trufi_retro Smith 4CH") == "cine trufi retro ? ? ch"
