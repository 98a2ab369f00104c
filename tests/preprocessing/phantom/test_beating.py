"""The beating heart along a plane: nothing that it covers is left out, and a slice is as thick as it says."""

from collections.abc import Iterator

import numpy as np
import pytest

from preprocessing.phantom import beating, render, study, truth

SETTINGS = study.Settings(studies=6, seed=3, phases=25, patients_with_two_studies=0.0)


@pytest.fixture(scope="module")
def drawn() -> list[truth.Truth]:
    return [study.draw(SETTINGS, visit)[0] for visit in study.visits(SETTINGS)]


def _planes(built: truth.Truth) -> list[render.Plane]:
    sax, lax = render.plan(built.subject, np.random.default_rng(0), slices=10, size=64, field_mm=320.0)
    return [*sax, *lax.values(), *render.scouts(built.subject, 64, 370.0)]


def _local(built: truth.Truth, plane: render.Plane) -> np.ndarray:
    return built.subject.pose.to_heart(plane.points().reshape(-1, 3))


def _cut(built: truth.Truth, plane: render.Plane, local: np.ndarray, thickness: float = 8.0) -> beating.Cut:
    subject = built.subject
    across = beating.Slice(subject.pose.axes @ plane.normal, 1.15 * plane.spacing, thickness)
    return beating.Cut(subject.heart, subject.pose, across, local, subject.chest.epicardial_fat)


def _painted(cut: beating.Cut, contracted: np.ndarray) -> np.ndarray:
    """Signal of the heart before a background of 0, `T N`."""
    canvas = np.zeros((len(contracted), len(cut.z)), cut.z.dtype)
    for group in beating.heart_groups(cut, contracted):
        painted = canvas.copy()
        for layer in group.layers:
            painted += np.clip(0.5 - layer.distance, 0.0, 1.0) * (layer.signal - painted)
        canvas += (1.0 if group.flat is None else np.clip(0.5 - group.flat, 0.0, 1.0)) * (painted - canvas)
    return canvas


def _distances(cut: beating.Cut, contracted: np.ndarray) -> Iterator[np.ndarray]:
    """Of each layer, `T N`."""
    for group in beating.heart_groups(cut, contracted):
        for layer in group.layers:
            yield layer.distance if group.flat is None else np.maximum(layer.distance, group.flat)


def test_what_the_heart_touches_holds_all_that_its_layers_cover(drawn):
    left_out = 0
    for built in drawn:
        for plane in _planes(built):
            cut = _cut(built, plane, _local(built, plane).astype(np.float32))
            touched = beating.touched(cut)
            left_out += (~touched).sum()
            for distance in _distances(cut, built.contracted):
                assert (distance >= 0.5)[:, ~touched].all()
    assert left_out > 0.7 * len(drawn) * 16 * 64**2  # or it would say nothing


def test_below_the_bases_nothing_of_the_upper_heart_is_missing(drawn):
    for built in drawn:
        high = np.array([[0.0, 0.0, -60.0]])
        lower = 0
        for plane in _planes(built)[:10]:
            local = _local(built, plane)
            cut = _cut(built, plane, local)
            if cut.upper:
                continue
            lower += 1
            whole = _cut(built, plane, np.concatenate([local, high]))  # one point higher up makes it draw everything
            assert whole.upper
            np.testing.assert_allclose(
                _painted(cut, built.contracted), _painted(whole, built.contracted)[:, :-1], atol=1e-12
            )
        assert lower >= 3


def test_a_thick_slice_is_the_mean_of_thin_ones(drawn):
    for built in drawn[:3]:
        errors, of_thin = [], []
        for plane in _planes(built)[:13]:
            local, normal = _local(built, plane), built.subject.pose.axes @ plane.normal
            some = built.contracted[::6]
            thin = [_painted(_cut(built, plane, local + off * normal, 0.0), some) for off in np.arange(-3.5, 4.0)]
            mean = np.mean(thin, 0)
            heart = mean > 0.0
            errors.append(np.abs(_painted(_cut(built, plane, local), some) - mean)[heart].mean())
            of_thin.append(np.abs(_painted(_cut(built, plane, local, 0.0), some) - mean)[heart].mean())
        assert np.mean(errors) < 0.025 and max(errors) < 0.08
        # Where surfaces slant, at the base and the apex, a slice without thickness would show something else.
        assert errors[0] < 0.56 * of_thin[0] and errors[9] < 0.8 * of_thin[9]


def test_layers_are_as_precise_as_their_points(drawn):
    """Single precision for pictures, which halves their time, and double for label maps."""
    built = drawn[0]
    for plane in _planes(built)[::5]:
        for kind in (np.float32, np.float64):
            cut = _cut(built, plane, _local(built, plane).astype(kind))
            assert {distance.dtype for distance in _distances(cut, built.contracted)} == {np.dtype(kind)}
