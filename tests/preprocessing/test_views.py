import csv
import dataclasses
import itertools
import pathlib

import numpy as np
import pytest

from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing import assemble, descriptions, pixels, views
from preprocessing.study import Series
from tests.preprocessing.test_assemble import frame
from tests.preprocessing.tiny_dicom import SAX, orthonormal


def labelled(description: str, *, phases: int = 20, site_table=()) -> tuple[str, str]:
    """(view, rule) of a lone oblique series."""
    one = oriented(*LONG_PLANE, phases=phases, description=description)
    views.label([one], site_table)
    return one.view, one.view_rule


def descriptions_of_protocols() -> list[tuple[str, ...]]:
    """Names as scanners and sites write them, with the view that a reader of the name alone would expect; the planes
    are oblique and there is no second series, so that geometry stays silent."""
    with (pathlib.Path(__file__).parent / "series_descriptions.csv").open(newline="", encoding="utf-8") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("description", "image_type", "phases", "view", "contrast"), descriptions_of_protocols())
def test_descriptions(description, image_type, phases, view, contrast):
    one = oriented(*LONG_PLANE, phases=int(phases), description=description, kind=tuple(image_type.split("\\")))
    views.label([one])
    assert (one.view, one.contrast) == (view, contrast)
    assert (one.view_rule == "none") <= (view == "unknown")


def test_the_table_of_descriptions_is_of_many_names_and_every_view():
    rows = descriptions_of_protocols()
    assert len({(description, image_type, phases) for description, image_type, phases, *_ in rows}) == len(rows) >= 190
    assert {view for *_, view, _ in rows} == set(schema.VIEWS)


def test_a_still_is_no_cine():
    assert labelled("SAX", phases=1) == ("unknown", "description:single_phase")


def test_the_site_table_goes_first(tmp_path):
    path = tmp_path / "views.csv"
    path.write_text("pattern,view\n^wonky,cine_3ch\nsax,cine_2ch\n")
    table = views.read_site_table(path)
    assert labelled("My SAX", site_table=table) == ("cine_2ch", "site:2")
    assert labelled("Wonky plane", phases=1, site_table=table) == ("cine_3ch", "site:1")


@pytest.mark.parametrize(
    "text", ["", "pattern,view\n", "pattern,view\n(,cine_sax\n", "pattern,view\nsax,banana\n", "a,b\n1,2\n"]
)
def test_a_bad_site_table_is_an_input_error(tmp_path, text):
    (tmp_path / "views.csv").write_text(text)
    with pytest.raises(InputError, match="--view_table"):
        views.read_site_table(tmp_path / "views.csv")


def oriented(right, down, *, slices=1, phases=10, description="", uid="1.9", kind=("ORIGINAL", "M")) -> Series:
    """A series in a given plane, slices along its normal."""
    right, down = orthonormal([*right, *down])
    n = np.cross(right, down)
    return Series(
        [
            [
                dataclasses.replace(
                    frame(s, p, series_uid=uid, description=description, kind=kind),
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


TWO_CHAMBER_PLANE = ((-0.65, 0.55, 0.5), (-0.35, 0.3, -0.84))


def test_geometry_speaks_where_descriptions_are_silent():
    stack, still = oriented(*SAX_PLANE, slices=8), oriented((1, 0, 0), (0, 1, 0), phases=1)
    one_slice = oriented(*SAX_PLANE)
    four, two = oriented(*LONG_PLANE), oriented(*TWO_CHAMBER_PLANE)
    axial_cine = oriented((1, 0, 0), (0, 1, 0), slices=12)
    series = [one_slice, four, two, still, stack, axial_cine]
    views.label(series)
    assert (stack.view, stack.view_rule) == ("cine_sax", "geometry:largest_parallel_stack")
    assert (one_slice.view, one_slice.view_rule) == ("cine_sax", "geometry:parallel_to_short_axis")
    assert (four.view, four.view_rule) == ("cine_4ch", "geometry:crosses_as_4ch")
    assert (two.view, two.view_rule) == ("cine_2ch", "geometry:crosses_as_2ch")
    assert (still.view, still.view_rule) == ("scout", "geometry:orthogonal_still")
    assert (axial_cine.view, axial_cine.view_rule) == ("unknown", "none")


def turned_about_the_long_axis(degrees: float, description: str = "") -> Series:
    """A long-axis plane that crosses the short axis at this angle from the viewer's right hand to the anterior wall."""
    right, down = (np.array(v) for v in orthonormal(SAX))
    along = np.cross(right, down)
    up = np.array([0.0, 0.0, 1.0]) - along * along[2]
    level = np.array([1.0, 1.0, 0.0]) - along * (along[0] + along[1])
    up, level = up / np.linalg.norm(up), level / np.linalg.norm(level)
    line = np.cos(np.radians(degrees)) * level + np.sin(np.radians(degrees)) * up
    return oriented(line, along, description=description)


@pytest.mark.parametrize("side", [0, 180])
@pytest.mark.parametrize(
    ("degrees", "view"),
    [(-18, "4ch"), (10, "4ch"), (38, "4ch"), (55, "lax"), (72, "2ch"), (108, "2ch"), (121, "3ch"), (153, "3ch")],
)
def test_long_axes_are_told_by_where_they_cross_the_short_axis(degrees, view, side):
    long_axis = turned_about_the_long_axis(degrees + side)
    views.label([oriented(*SAX_PLANE, slices=4, description="SAX"), long_axis])
    rule = "across_short_axis" if view == "lax" else f"crosses_as_{view}"
    assert (long_axis.view, long_axis.view_rule) == (f"cine_{view}", f"geometry:{rule}")


@pytest.mark.parametrize(("degrees", "view"), [(137, "cine_3ch"), (47, "cine_lvot"), (90, "cine_lvot")])
def test_an_outflow_tract_that_lies_like_three_chambers_is_that(degrees, view):
    stack = oriented(*SAX_PLANE, slices=4, description="SAX")
    outflow = turned_about_the_long_axis(degrees, description="LVOT FIESTA")
    views.label([stack, outflow])
    assert outflow.view == view


def test_late_enhancement_without_a_plane_word_goes_by_geometry():
    stack = oriented(*SAX_PLANE, slices=8, description="SAX")
    across = oriented(*LONG_PLANE, phases=1, description="LGE PSIR")
    along = oriented(*SAX_PLANE, phases=1, slices=3, description="LGE_MAG")
    lone = oriented(*LONG_PLANE, phases=1, description="LGE")
    views.label([stack, across, along])
    assert (across.view, across.view_rule, across.contrast) == ("lge_4ch", "geometry:crosses_as_4ch", "psir")
    assert (along.view, along.contrast) == ("lge_sax", "magnitude")
    views.label([lone])
    assert (lone.view, lone.view_rule, lone.contrast) == ("lge_lax", "description:lge", "magnitude")


def test_levels_are_thirds_of_a_stack_base_first():
    stack = oriented(*SAX_PLANE, slices=7, description="SAX")
    views.label([stack])
    assert stack.levels == ("base", "base", "base", "mid", "mid", "apex", "apex")
    lone, long_axis = oriented(*SAX_PLANE, description="SAX mid"), oriented(*LONG_PLANE, description="4CH")
    views.label([lone, long_axis])
    assert (lone.levels, long_axis.levels) == (("mid",), ("",))


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


@pytest.mark.parametrize(("plane", "like"), [(LONG_PLANE, "cine_4ch"), (TWO_CHAMBER_PLANE, "cine_2ch")])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_long_axis_known_by_geometry_alone_is_held_like_one_with_a_name(plane, like, sign):
    right, down = (tuple(sign * v for v in direction) for direction in plane)
    unnamed, named = oriented(right, down), oriented(right, down, description=like)
    views.label([oriented(*SAX_PLANE, slices=4, description="SAX"), unnamed, named])
    assert (unnamed.view, named.view) == (like, like)
    assert unnamed.orientation == named.orientation


def test_a_shown_description_hides_words_that_may_be_names():
    assert descriptions.shown("cine_trufi_retro Smith 4CH") == "cine trufi retro ? 4 ch"
    assert descriptions.shown("") == ""
    assert descriptions.shown("Smith 4 7 1 2 3 CH 2ch 1963 ch") == "? ? ? ? ? 3 ch 2 ch ? ch"
