"""Pictures: volumes measured on them are the truth's, and they lie where their geometry says."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from preprocessing.phantom import anatomy, beating, render, scene, study, truth

SETTINGS = study.Settings(studies=10, seed=3, phases=20, slices=8, patients_with_two_studies=0.0)


def _drawn(settings: study.Settings) -> list[truth.Truth]:
    return [study.draw(settings, visit)[0] for visit in study.visits(settings)]


@pytest.fixture(scope="module")
def drawn() -> list[truth.Truth]:
    return _drawn(SETTINGS)


def _planes(built: truth.Truth, *, slices: int = 8, size: int = 128, field_mm: float = 320.0):
    return render.plan(built.subject, np.random.default_rng(0), slices=slices, size=size, field_mm=field_mm)


def _ends(built: truth.Truth) -> np.ndarray:
    return np.array([built.contracted.min(), built.contracted.max()])


def _stack(built: truth.Truth, gap: float, spacing: float) -> tuple[np.ndarray, float]:
    """Label maps `S T H W` of an ideal stack across the whole heart, and the volume of a voxel in mL."""
    pose, size = built.subject.pose, int(240 / spacing)
    maps = []
    for z in np.arange(-10.0, built.subject.heart.length + 10.0, gap):
        centre = pose.to_patient(np.array([-20.0, 0.0, z]))
        plane = render.oriented("sax", centre, -pose.axes[2], spacing, size)
        maps.append(render.label_map(built.subject, plane, _ends(built)))
    return np.stack(maps), gap * spacing**2 / 1000.0


def test_volumes_measured_on_label_maps_are_the_truth(drawn):
    for built in drawn[:5]:
        maps, voxel = _stack(built, 2.0, 1.5)
        left = np.isin(maps, (scene.LV, scene.PAPILLARY)).sum((0, 2, 3)) * voxel
        right = (maps == scene.RV).sum((0, 2, 3)) * voxel
        wall = (maps == scene.MYOCARDIUM).sum((0, 2, 3)) * voxel
        assert left == pytest.approx([built.edv, built.esv], rel=0.03)
        assert right == pytest.approx([built.rv_edv, built.rv_esv], rel=0.04)
        assert wall * anatomy.MYOCARDIUM_G_PER_ML == pytest.approx(built.mass, rel=0.04)
        assert 100 * (1 - left[1] / left[0]) == pytest.approx(built.lvef, abs=1.5)


def test_pictures_of_crossing_planes_agree_on_their_line(drawn):
    """On the line where two planes meet, both show the same tissue."""
    for built in drawn[:3]:
        sax, lax = _planes(built, size=256, field_mm=256.0)
        at = _ends(built)[:1]
        for long in lax.values():
            line = np.cross(sax[3].normal, long.normal)
            line /= np.linalg.norm(line)
            normals = np.stack([sax[3].normal, long.normal, line])
            aim = built.subject.pose.to_patient(np.array([0.0, 0.0, 40.0]))
            on = np.linalg.solve(normals, [sax[3].normal @ sax[3].origin, long.normal @ long.origin, line @ aim])
            points = on + np.arange(-70.0, 70.0, 1.0)[:, None] * line
            a, b = (_sample(render.label_map(built.subject, p, at)[0], p, points) for p in (sax[3], long))
            assert len(set(a)) >= 3
            assert (a == b).mean() > 0.95


def _sample(image: np.ndarray, plane: render.Plane, points: np.ndarray) -> np.ndarray:
    off = points - plane.origin
    assert np.abs(off @ plane.normal).max() < 0.01
    columns = np.rint(off @ plane.row / plane.spacing).astype(int)
    rows = np.rint(off @ plane.column / plane.spacing).astype(int)
    return image[rows, columns]


def test_blood_pool_seen_in_pixels_lies_at_one_place_in_the_patient(drawn):
    """Bright pixels of the cavity, in short-axis and 4-chamber pictures, centred on the same axis in LPS."""
    rng = np.random.default_rng(0)
    for built in drawn[:3]:
        sax, lax = _planes(built)
        for plane in (sax[3], lax["4ch"]):
            picture = render.picture(built.subject, plane, _ends(built), rng, noise=0.01, gain=500.0)[0]
            names = render.label_map(built.subject, plane, _ends(built))[0]
            cavity, wall = np.isin(names, (scene.LV,)), names == scene.MYOCARDIUM
            bright = picture > 0.5 * (np.median(picture[cavity]) + np.median(picture[wall]))
            assert bright[cavity].mean() > 0.85
            assert (~bright)[wall].mean() > 0.7
            centre = built.subject.pose.to_heart(plane.points()[cavity & bright].mean(0))
            assert np.hypot(centre[0], centre[1]) < 6.0


def test_short_axis_is_displayed_as_usual(drawn):
    for built in drawn:
        sax, lax = _planes(built)
        names = render.label_map(built.subject, sax[3], _ends(built))[0]
        left = np.argwhere(np.isin(names, (scene.LV, scene.PAPILLARY))).mean(0)
        right = np.argwhere(names == scene.RV).mean(0)
        assert right[1] < left[1] - 8, "the right ventricle is on the left of the picture"
        lateral = built.subject.pose.axes[0]
        inferior = built.subject.pose.axes[1]
        assert sax[3].row @ lateral > 0.85 and sax[3].column @ inferior > 0.85
        # Sunnybrook's habit: rows run to the left and back, columns to the feet.
        assert sax[3].row[0] > 0 and sax[3].column[2] < -0.6
        four = render.label_map(built.subject, lax["4ch"], _ends(built))[0]
        counts = {name: (four == name).sum() for name in (scene.LV, scene.RV, scene.LA, scene.RA)}
        assert min(counts.values()) > 60, counts
        three = render.label_map(built.subject, lax["3ch"], _ends(built))[0]
        assert (three == scene.AORTA).sum() > 20 and (three == scene.LA).sum() > 60


def test_long_axes_hold_the_axis_and_the_stack_crosses_it(drawn):
    for built in drawn:
        sax, lax = _planes(built)
        axis = built.subject.pose.axes[2]
        for plane in lax.values():
            assert abs(plane.normal @ axis) < 0.05
            assert np.degrees(np.arccos(abs(plane.normal @ sax[0].normal))) > 60
        depth = [built.subject.pose.to_heart(p.points()[64, 64])[2] for p in sax]
        assert np.all(np.diff(depth) >= render.SLICE_MM - 0.5)
        assert depth[0] < 0.25 * built.subject.heart.length and depth[-1] > 0.75 * built.subject.heart.length


def test_tissues_are_ordered_as_in_balanced_ssfp(drawn):
    rng = np.random.default_rng(0)
    built = drawn[0]
    sax, _ = _planes(built)
    at = _ends(built)
    picture = render.picture(built.subject, sax[3], at, rng, noise=0.02, gain=500.0)[0]
    names = render.label_map(built.subject, sax[3], at)[0]
    blood, muscle = np.median(picture[names == scene.LV]), np.median(picture[names == scene.MYOCARDIUM])
    points = sax[3].points().reshape(-1, 3)
    still = {round(layer.signal, 2): layer.distance for layer in scene.chest_layers(
        built.subject.chest, built.subject.pose, points)}  # fmt: skip
    fat = np.median(picture.reshape(-1)[(still[scene.FAT] < -3) & (still[scene.FAT] > -7)])
    air = np.percentile(picture, 10)
    assert fat > muscle * 1.5 and blood > 1.8 * muscle and muscle > 3.0 * air
    assert picture.dtype == np.uint16 and picture.max() < 4096


def test_what_a_layer_hides_does_not_shine_through_where_both_are_cut():
    canvas, flat = np.full((1, 3), 0.8), np.array([[-1.0, 0.0, 1.0]])
    deep = np.full((1, 3), -5.0)
    layers = iter([scene.Layer(0.0, deep), scene.Layer(1.0, deep)])
    render._paint_group(canvas, beating.Group(layers, flat))
    assert canvas[0] == pytest.approx([1.0, 0.5 * 1.0 + 0.5 * 0.8, 0.8])


@pytest.mark.parametrize("at_once", [1, 10_000])
def test_pictures_do_not_depend_on_how_many_phases_are_made_together(drawn, monkeypatch, at_once: int):
    built = drawn[1]
    sax, lax = _planes(built, size=64)

    def shot(plane: render.Plane) -> np.ndarray:
        rng = np.random.default_rng(0)
        return render.picture(built.subject, plane, built.contracted, rng, noise=0.02, gain=500.0)

    for plane in (sax[0], sax[4], lax["3ch"]):
        monkeypatch.setattr(render, "_AT_ONCE", 1 << 30)
        together = shot(plane)
        monkeypatch.setattr(render, "_AT_ONCE", at_once)
        np.testing.assert_array_equal(shot(plane), together)


def test_noise_is_rician(drawn):
    built = drawn[0]
    sax, _ = _planes(built, size=64)
    one = dataclasses.replace(
        built.subject, chest=dataclasses.replace(built.subject.chest, half_width=1.0, half_depth=1.0)
    )
    air = render.picture(one, sax[-1], np.zeros(4), np.random.default_rng(0), noise=0.1, gain=1000.0)[:, :6]
    assert air.mean() == pytest.approx(100.0 * np.sqrt(np.pi / 2), rel=0.03)


def _features(built: truth.Truth) -> np.ndarray:
    """Areas a reader could trace at 3 mm: cavity, wall and right ventricle on 3 slices at both ends, and asymmetry."""
    sax, _ = _planes(built, slices=5, size=64, field_mm=192.0)
    out = []
    for plane in sax[1:4]:
        names = render.label_map(built.subject, plane, _ends(built))
        for label in (scene.LV, scene.MYOCARDIUM, scene.RV):
            out += list((names == label).sum((1, 2)))
        local = built.subject.pose.to_heart(plane.points())
        theta = np.arctan2(local[..., 1], local[..., 0])
        sector = (theta + np.pi) // (np.pi / 3)
        out += [((sector == s) & (names[t] == scene.MYOCARDIUM)).sum() for s in range(6) for t in (0, 1)]
    return np.array(out, float)


def test_groups_can_be_told_apart_by_a_few_areas():
    built = _drawn(dataclasses.replace(SETTINGS, studies=200, phases=10))
    features = np.stack([_features(b) for b in built])
    group = np.array([b.targets.group for b in built])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))
    scores = cross_val_predict(model, features, group, cv=4, method="predict_proba")
    assert roc_auc_score(group, scores, multi_class="ovr") > 0.95
    # The control: the same features say nothing about shuffled groups.
    shuffled = np.random.default_rng(0).permutation(group)
    chance = cross_val_predict(model, features, shuffled, cv=4, method="predict_proba")
    assert roc_auc_score(shuffled, chance, multi_class="ovr") < 0.65
