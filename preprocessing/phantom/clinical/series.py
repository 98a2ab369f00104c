"""The series of one exam in the habit of a vendor: cines, late enhancement, maps, scouts.

Letters: S slices, T phases, H W pixels.
"""

import dataclasses

import numpy as np

from preprocessing.phantom import dicom
from preprocessing.phantom.clinical import cut, heart, motion, planes, scanner, tissue
from preprocessing.phantom.clinical.camera import Camera
from preprocessing.phantom.clinical.case import Case
from preprocessing.phantom.dicom import Protocol, SeriesPlan
from preprocessing.phantom.render import Plane
from preprocessing.phantom.visits import HABIT, Settings

# What operators type. "silent" is a name without the plane, so that geometry must tell.
_CINE = {
    "siemens": {"sax": ("cine_trufi_sax", "sa_cine_stack", "cine_retro_SAX"), "2ch": ("cine_trufi_2ch", "2ch_cine"),
                "3ch": ("cine_trufi_3ch", "3ch_cine"), "4ch": ("cine_trufi_4ch", "4ch_cine"),
                "silent": ("cine_trufi_retro",)},
    "ge": {"sax": ("SAX FIESTA", "FIESTA SHORT AXIS"), "2ch": ("2CH FIESTA",), "3ch": ("3CH FIESTA",),
           "4ch": ("4CH FIESTA", "4 CHAMBER FIESTA"), "silent": ("FIESTA CINE",)},
    "philips": {"sax": ("sBTFE_BH SA", "B-TFE_SA_MS"), "2ch": ("sBTFE_BH_2ch",), "3ch": ("sBTFE_BH_3ch",),
                "4ch": ("sBTFE_BH_4ch",), "silent": ("sBTFE_BH",)},
}  # fmt: skip
_PLANES = {
    "siemens": {"sax": "sax", "2ch": "2ch", "3ch": "3ch", "4ch": "4ch"},
    "ge": {"sax": "SAX", "2ch": "2CH", "3ch": "3CH", "4ch": "4CH"},
    "philips": {"sax": "SA", "2ch": "2ch", "3ch": "3ch", "4ch": "4ch"},
}
# Phase-sensitive and magnitude, `{}` the plane; and the silent ones.
_LATE = {
    "siemens": (("de_tfl_psir_{}", "LGE_{}_PSIR"), ("de_{}_tfl_MAG", "LGE_{}_mag"), ("de_tfl_psir", "LGE_mag")),
    "ge": (("PSIR MDE {}",), ("MDE {}", "{} DELAYED ENHANCEMENT"), ("PSIR MDE", "MDE")),
    "philips": (("PSIR_TFE_BH_{}",), ("IR_TFE_{}", "LGE_{}"), ("PSIR_TFE_BH", "IR_TFE_BH")),
}
_MAPS = {
    "siemens": {"t1_map": ("T1map_MOLLI_sax_native_MOCO_T1", "T1_MOLLI_pre_MAP"), "t2_map": ("T2map_sax_MOCO_T2",)},
    "ge": {"t1_map": ("T1 MAP MOLLI PRE", "SMART1Map native"), "t2_map": ("T2 MAP SAX",)},
    "philips": {"t1_map": ("T1_MOLLI_native_SA", "MOLLI_pre_SA"), "t2_map": ("T2_map_GraSE_SA",)},
}
_SCOUT = {"siemens": "localizer", "ge": "3-PL LOC", "philips": "SURVEY"}
_AGENT = "Gadobutrol"
_DIASTASIS = 0.72  # part of the cycle at which still pictures of the heart are taken
_LARGEST = 4000.0  # ms that a map stores


class Exam:
    """Makes the series of `case`; one generator runs through them in a fixed order."""

    def __init__(self, settings: Settings, case: Case, vendor: str, rng: np.random.Generator):
        self.case, self.vendor, self.rng, self.size = case, vendor, rng, settings.matrix
        subject, found = case.subject, case.findings
        self.how = planes.habit(rng, subject, vendor, found.breathing)
        self.tissues = tissue.draw(rng, subject.t1, subject.t2)
        self.palette = tissue.cine(rng, self.tissues, self.how.flip_deg, self.how.tr)
        scan = scanner.draw(rng, subject.chest, vendor, found.breathing)
        phases = len(case.contracted)
        self.camera = Camera(subject, scan, rng, phases * self.size**2)
        self.beat = heart.beat(subject.heart, case.contracted)
        self.tables = cut.Tables(self.beat)
        still = min(round((_DIASTASIS - case.rhythm.delay) * phases), phases - 1)
        self.still, self.still_tables = self.beat.phase(still), self.tables.phase(still)
        most = settings.slices if settings.slices != HABIT else 16
        self.stack = planes.short_axis(subject, rng, self.how, most=most, size=self.size)
        self.silent = bool(rng.random() < 0.15)
        # A shorter field of view along the phase encoding saves time.
        self.kept = float({"siemens": rng.uniform(0.75, 1.0), "ge": 1.0, "philips": rng.uniform(0.8, 1.0)}[vendor])
        self.phase_axis = int(rng.random() < 0.5)  # rows or columns are left out

    def _pick(self, names: tuple[str, ...]) -> str:
        return names[int(self.rng.integers(len(names)))]

    def _long(self, view: str) -> Plane:
        return planes.long_axis(self.case.subject, self.rng, self.how, view, size=self.size)

    def scout(self) -> SeriesPlan:
        survey = planes.scouts(self.case.subject, self.size, 1.15 * self.how.field)
        frames = [
            self.camera.stored(
                p, self.camera.signal(p, self.still, self.still_tables, self.palette, thickness=self.how.thickness)
            )
            for p in survey
        ]
        return SeriesPlan(_SCOUT[self.vendor], survey, np.stack(frames), np.zeros((3, 1)), 0.0, scout=True)

    def cine(self, view: str) -> SeriesPlan:
        """A balanced cine of `view`; slices of a failed breath-hold lie elsewhere than their headers say."""
        laid = self.stack if view == "sax" else [self._long(view)]
        names = _CINE[self.vendor]
        protocol = Protocol(
            thickness=self.how.thickness,
            tr=f"{self.how.tr:.2f}",
            te=f"{0.5 * self.how.tr:.2f}",
            flip=f"{self.how.flip_deg:.0f}",
        )
        frames = np.stack([self._beating(plane) for plane in laid])
        times, interval = motion.trigger_times(self.rng, self.case.rhythm, len(laid), frames.shape[1])
        text = self._pick(names["silent" if self.silent else view])
        return SeriesPlan(text, laid, frames, times, interval, protocol=protocol)

    def _beating(self, plane: Plane) -> np.ndarray:
        frames = self.camera.signal(
            plane, self.beat, self.tables, self.palette, thickness=self.how.thickness,
            shift=planes.breath(self.rng, self.how),
        )  # fmt: skip
        return self.camera.stored(plane, motion.smeared(self.rng, self.case.rhythm, frames))

    def late(self) -> list[SeriesPlan]:
        """Late enhancement in every plane of it that was acquired: one inversion time, one contrast."""
        rng, subject, rate = self.rng, self.case.subject, self.case.rhythm.rate
        palette, ti = tissue.late(
            self.tissues,
            agent=rng.uniform(1.9, 2.9),
            interval=2.0 * 60000.0 / rate,
            off_ms=rng.normal(4.0, 9.0),
            scar_uptake=rng.uniform(1.0, 1.4),
            muscle_uptake=subject.uptake,
        )
        signed = bool(rng.random() < {"siemens": 0.6, "ge": 0.2, "philips": 0.6}[self.vendor])
        views = [v for v in ("2ch", "3ch", "4ch", "sax") if f"lge_{v}" in self.case.findings.acquired]
        return [self._enhanced(view, palette, ti, signed) for view in views]

    def _enhanced(self, view: str, palette: tissue.Palette, ti: float, signed: bool) -> SeriesPlan:
        laid = self.stack if view == "sax" else [self._long(view)]
        frames = []
        for plane in laid:
            picture = self.camera.signal(
                plane, self.still, self.still_tables, palette, thickness=self.how.thickness,
                shift=planes.breath(self.rng, self.how), scar=palette["scar"],
            )  # fmt: skip
            frames.append(self.camera.stored(plane, picture, quiet=1.6, signed=signed))
        kind = ("DERIVED", "PRIMARY", "PSIR") if signed else ("ORIGINAL", "PRIMARY", "M")
        kinds = _LATE[self.vendor]
        text = kinds[2][0 if signed else 1] if self.silent else self._pick(kinds[0 if signed else 1])
        protocol = Protocol(
            thickness=self.how.thickness, tr="5.6", te="2.1", flip="25", scanning=("GR", "IR"), variant=("SP", "MP"),
            sequence="TFL_IR", inversion_ms=ti, agent=_AGENT, image_type=kind, contrast="T1",
        )  # fmt: skip
        return self._one_phase(text.format(_PLANES[self.vendor][view]), laid, np.stack(frames), protocol)

    def _one_phase(self, text: str, laid: list[Plane], frames: np.ndarray, protocol: Protocol) -> SeriesPlan:
        interval = 60000.0 / self.case.rhythm.rate
        times = np.round(_DIASTASIS * interval * np.exp(self.rng.normal(0.0, 0.02, (len(laid), 1))), 2)
        return SeriesPlan(text, laid, frames, times, interval, protocol=protocol)

    def mapped(self, which: str) -> SeriesPlan:
        """A native T1 or T2 map (`which` of "t1_map", "t2_map") of three short-axis slices; pixels stand for ms."""
        first = which == "t1_map"
        subject = self.case.subject
        palette = tissue.map_values(self.tissues, 0 if first else 1)
        scar = palette["muscle"] + (subject.lesion_t1 if first else subject.lesion_t2)
        spread, scale = (28.0, 1.0) if first else (2.2, 10.0 if self.vendor == "siemens" else 1.0)
        count = len(self.stack)
        laid = [self.stack[round(part * (count - 1))] for part in (0.25, 0.5, 0.72)]
        frames = []
        for plane in laid:
            values = self.camera.signal(
                plane, self.still, self.still_tables, palette, thickness=8.0, shift=planes.breath(self.rng, self.how),
                scar=scar, whole=True,
            )  # fmt: skip
            values = np.minimum(values, _LARGEST if first else 400.0)
            frames.append(scanner.stored_map(self.rng, values, spread, palette["muscle"], scale))
        name = "T1 MAP" if first else "T2 MAP"
        protocol = Protocol(
            thickness=8.0, tr="2.7", te="1.1", flip="35" if first else "70",
            scanning=("GR", "IR") if first else ("GR",), variant=("SS", "MP") if first else ("SS",),
            sequence="MOLLI" if first else "T2PREP_TRUFI",
            image_type=("DERIVED", "PRIMARY", name), slope=1.0 / scale, contrast="T1" if first else "T2",
        )  # fmt: skip
        return self._one_phase(self._pick(_MAPS[self.vendor][which]), laid, np.stack(frames), protocol)

    def series(self) -> list[SeriesPlan]:
        """All that was acquired, in the order of an exam: maps before the agent, enhancement after it."""
        acquired = self.case.findings.acquired
        out = [self.scout()]
        out += [self.cine(view) for view in ("2ch", "4ch", "3ch") if f"cine_{view}" in acquired]
        out += [self.mapped(which) for which in ("t1_map", "t2_map") if which in acquired]
        out += [self.cine("sax"), *self.late()]
        return [one for plan in out for one in self._by_slice(self._cropped(plan))]

    def _cropped(self, plan: SeriesPlan) -> SeriesPlan:
        """`plan` without the rows or columns at either side that a rectangular field of view leaves out."""
        out = round(0.5 * (1.0 - self.kept) * self.size)
        if plan.scout or not out:
            return plan
        box = [slice(None), slice(None)]
        box[self.phase_axis] = slice(out, self.size - out)
        laid = [
            dataclasses.replace(p, origin=p.origin + out * p.spacing * (p.row if self.phase_axis else p.column))
            for p in plan.planes
        ]
        return dataclasses.replace(plan, planes=laid, frames=plan.frames[:, :, *box])

    def _by_slice(self, plan: SeriesPlan) -> list[SeriesPlan]:
        """Siemens writes a series for each slice of a cine stack; the others, and every maker's stills, one in all."""
        if self.vendor != "siemens" or plan.scout or plan.frames.shape[1] == 1 or len(plan.planes) == 1:
            return [plan]
        return [
            dataclasses.replace(plan, planes=plan.planes[s : s + 1], frames=plan.frames[s : s + 1],
                                times_ms=plan.times_ms[s : s + 1])
            for s in range(len(plan.planes))
        ]  # fmt: skip


def series_of(settings: Settings, case: Case, vendor: str, rng: np.random.Generator) -> list[dicom.SeriesPlan]:
    """The series of `case` on a scanner of `vendor`."""
    return Exam(settings, case, vendor, rng).series()
