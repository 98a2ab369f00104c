"""What preprocessing's labels should say of a report, from what its reader saw."""

from preprocessing.phantom.findings import Findings
from preprocessing.phantom.grammar.reading import Reading

_HCM = {"hypertrophic_septal", "hypertrophic_apical", "hypertrophic_concentric"}
# The labels that the naming of a disease may set.
_NAMED = {
    "myocarditis": {"myocarditis"},
    "amyloidosis": {"amyloid"},
    "infiltrative_cardiomyopathy": {"amyloid"},
    "sarcoidosis": {"sarcoid"},
    "hypertrophic_cardiomyopathy": {*_HCM, "amyloid"},
    "ischemic_cardiomyopathy": {"ischaemic"},
    "non_ischemic_cardiomyopathy": {"dilated"},
    "myocardial_infarction": {"ischaemic"},
    "pulmonary_hypertension": {"rv_overload"},
    "non_compaction": {"noncompaction"},
}
GRADED = {
    "lv_dilation": "lv_size",
    "lv_dysfunction": "lv_function",
    "rv_dilation": "rv_size",
    "rv_dysfunction": "rv_function",
    "la_dilation": "la_size",
    "ra_dilation": "ra_size",
    "lv_hypertrophy": "wall",
}


def states(findings: Findings, reading: Reading) -> dict[str, set[str]]:
    """The states that each label may have, where it is said at all. No entry: it must not be said."""
    out = {}
    for label, name in GRADED.items():
        if name in reading.grades:
            grade = reading.grades[name]
            any_ = {"present", "absent", "uncertain"}
            out[label] = {"absent"} if not grade else any_ if grade == "borderline" else {"present"}
    if any(name.startswith("lge_") for name in findings.acquired):
        faint = any(scar.transmurality < 0.25 for scar in reading.scars)
        seen = {"present", "uncertain"} if faint else {"present"}
        out["late_enhancement"] = seen if reading.scars else {"absent"}
        out["fibrosis"] = out["late_enhancement"]
    if reading.method:
        out["pericardial_effusion"] = {"present"} if "effusion" in reading.numbers else {"absent"}
    has = {disease for disease, _ in findings.diseases}
    for label, diseases in _NAMED.items():
        out[label] = {"present", "uncertain"} if has & diseases else {"absent"}
    if findings.trabeculated:
        out["non_compaction"] |= {"present"}
    return out
