"""What a reader could say of a clinical phantom: the truth that its pictures show, and nothing that they do not.

`clinical` fills it, `grammar` puts it into words. Segments are those of the American Heart Association, numbered 1 to
17 (Cerqueira et al., Circulation 2002): 1-6 basal, 7-12 middle, 13-16 apical, 17 the tip. Arrays of segments have 17
entries, of segment 1 first.
"""

import dataclasses

DISEASES = (
    "normal",
    "dilated",
    "ischaemic",
    "hypertrophic_septal",
    "hypertrophic_apical",
    "hypertrophic_concentric",
    "amyloid",
    "myocarditis",
    "sarcoid",
    "arvc",
    "rv_overload",
    "noncompaction",
)
PATTERNS = ("subendocardial", "transmural", "mid-wall", "subepicardial", "insertion", "diffuse")
MOTIONS = ("normal", "hypokinetic", "akinetic", "dyskinetic")
RHYTHMS = ("sinus", "ectopy", "fibrillation")
# Series that may be acquired; a report says nothing that none of the acquired ones could show.
SERIES = (
    "cine_sax",
    "cine_2ch",
    "cine_3ch",
    "cine_4ch",
    "lge_sax",
    "lge_2ch",
    "lge_3ch",
    "lge_4ch",
    "t1_map",
    "t2_map",
)


@dataclasses.dataclass(frozen=True)
class Scar:
    """A lesion of late enhancement. `transmurality` is the enhanced part of the wall's thickness, 0..1."""

    pattern: str  # of PATTERNS
    segments: tuple[int, ...]
    transmurality: float
    territory: str = ""  # "LAD", "RCA", "LCx" where ischaemic


@dataclasses.dataclass(frozen=True)
class Findings:
    """Volumes in mL, mass in g, thickness in mm, relaxation times in ms, fractions in percent, severities 0..1."""

    acquired: frozenset[str]  # of SERIES
    diseases: tuple[tuple[str, float], ...]  # (of DISEASES, severity), the leading one first; mixtures have two
    sex: str  # "M" or "F"
    age: int
    height_m: float
    weight_kg: float
    heart_rate: float
    rhythm: str  # of RHYTHMS
    lvef: float
    edv_ml: float
    esv_ml: float
    mass_g: float
    rv_ef: float
    rv_edv_ml: float
    rv_esv_ml: float
    left_atrium_ml: float
    wall_mm: tuple[float, ...]  # 17, at end-diastole
    motion: tuple[str, ...]  # 17, of MOTIONS
    scars: tuple[Scar, ...] = ()
    t1_ms: tuple[float, ...] = ()  # 17, native, at 1.5 T; empty where no map was made
    t2_ms: tuple[float, ...] = ()
    aneurysm: bool = False
    trabeculated: bool = False  # non-compacted to compacted above 2.3 at end-diastole
    effusion_mm: float = 0.0
    breathing: bool = False  # a breath-hold failed: pictures are degraded
    prior_date: str = ""  # YYYYMMDD of the visit before, "" where none
    prior_lvef: float | None = None
    right_atrium_ml: float | None = None  # at its largest
    septal_flattening: bool = False  # a D-shaped left ventricle on the short axis
    rv_bulging: bool = False  # a piece of the right ventricle's free wall bulges in systole

    @property
    def bsa_m2(self) -> float:
        """Body surface (Mosteller)."""
        return (self.height_m * 100.0 * self.weight_kg / 3600.0) ** 0.5
