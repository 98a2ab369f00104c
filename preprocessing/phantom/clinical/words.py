"""A stand-in for `grammar`: the findings in a few plain sentences, for what was acquired alone."""

from preprocessing.phantom.clinical import segments
from preprocessing.phantom.findings import Findings
from preprocessing.phantom.reports import Sections


def _where(numbers: tuple[int, ...]) -> str:
    return ", ".join(segments.NAMES[n - 1] for n in numbers)


def sections(found: Findings) -> Sections:
    """A report without variety; `grammar.compose` takes its place."""
    said = [
        f"Left ventricle: EDV {found.edv_ml:.0f} ml, ESV {found.esv_ml:.0f} ml, LVEF {found.lvef:.0f}%, "
        f"mass {found.mass_g:.0f} g, maximal wall thickness {max(found.wall_mm):.0f} mm."
    ]
    for word in ("hypokinetic", "akinetic", "dyskinetic"):
        hit = tuple(n for n in range(1, 18) if found.motion[n - 1] == word)
        if hit:
            said.append(f"{word.capitalize()} segments: {_where(hit)}.")
    said.append(f"Right ventricle: EDV {found.rv_edv_ml:.0f} ml, RVEF {found.rv_ef:.0f}%.")
    if any(name.startswith("lge") for name in found.acquired):
        said += [f"Late enhancement, {scar.pattern}: {_where(scar.segments)}." for scar in found.scars]
        if not found.scars:
            said.append("No late gadolinium enhancement.")
    if found.t1_ms:
        said.append(f"Native T1 {sum(found.t1_ms) / 17:.0f} ms.")
    if found.t2_ms:
        said.append(f"T2 {sum(found.t2_ms) / 17:.0f} ms.")
    if found.effusion_mm > 1.0:
        said.append(f"Pericardial effusion of {found.effusion_mm:.0f} mm.")
    comparison = f"Study of {found.prior_date}." if found.prior_date else ""
    return Sections("Cardiac MRI.", "Cine imaging.", comparison, " ".join(said), f"LVEF {found.lvef:.0f}%.")
