"""The report a cardiologist might have dictated, composed from the hidden truth.

Only what the cines can show is said. The indication is drawn without looking at the disease.
"""

import dataclasses

import numpy as np

from preprocessing.phantom.reading import Reading, read
from preprocessing.phantom.truth import Truth

_SYMPTOMS = (
    "chest pain", "dyspnoea on exertion", "palpitations", "syncope", "abnormal ECG", "fatigue", "family history of "
    "cardiac disease", "atypical chest discomfort", "shortness of breath", "equivocal echocardiogram",
)  # fmt: skip
_QUESTIONS = (
    "Assess cardiac structure and function.", "Evaluate ventricular volumes and function.", "Rule out structural heart "
    "disease.", "Cardiomyopathy?", "Evaluate biventricular size and function.", "Poor echo windows.", "",
)  # fmt: skip
_TECHNIQUE = (
    "Breath-held SSFP cine imaging in short-axis and 2-, 3- and 4-chamber planes at 1.5 T without contrast.",
    "ECG-gated steady-state free precession cines in standard long-axis and short-axis orientations. No contrast.",
    "1.5 T. Scouts, retrospectively gated cine SSFP in the 2, 3 and 4 chamber views and a short axis stack.",
)
_NORMAL_TEMPLATES = (
    (
        "The left ventricle is normal in size with normal wall thickness. Left ventricular systolic function is normal "
        "without regional wall motion abnormality. The right ventricle is normal in size and systolic function. "
        "The atria are normal in size.",
        "Normal cardiac MRI.",
    ),
    (
        "Normal left ventricular size, wall thickness and systolic function. No regional wall motion abnormality. "
        "Normal right ventricular size and function. Normal atrial size.",
        "1. Normal biventricular size and systolic function.\n2. No regional wall motion abnormality.",
    ),
    (
        "LV: normal volumes, mass and ejection fraction. No wall motion abnormality.\nRV: normal volumes and ejection "
        "fraction.\nAtria: not enlarged.",
        "Normal study.",
    ),
)


@dataclasses.dataclass(frozen=True)
class Sections:
    indication: str
    technique: str
    comparison: str  # "" where there is none
    findings: str
    impression: str


def _pick(rng: np.random.Generator, *choices: str) -> str:
    return choices[int(rng.integers(len(choices)))]


def ly(grade: str) -> str:
    return grade + "ly"


def _fraction(rng: np.random.Generator, name: str, percent: float) -> str:
    """An ejection fraction as authors write it."""
    whole = round(percent)
    five = 5 * round(percent / 5)
    return _pick(
        rng,
        f"{name} {whole}%",
        f"{name} {whole}%",
        f"{name} of {whole} %",
        f"{name} is {whole}%",
        f"{name} approximately {five}%",
        f"{name} estimated at {five}%",
        f"{name} {five - 5}-{five}%" if percent < five else f"{name} {five}-{five + 5}%",
    )


def _left_size(rng: np.random.Generator, truth: Truth, reading: Reading) -> str:
    volume = _pick(rng, f" (EDV {truth.edv:.0f} mL)", f", end-diastolic volume {truth.edv:.0f} ml", "")
    grade_ = reading.lv_size
    if not grade_:
        return _pick(
            rng,
            f"The left ventricle is normal in size{volume}.",
            f"Normal left ventricular cavity size{volume}.",
            f"LV cavity size is within normal limits{volume}.",
            f"Left ventricular volumes are normal{volume}.",
        )
    return _pick(
        rng,
        f"The left ventricle is {ly(grade_)} dilated{volume}.",
        f"{grade_.capitalize()} left ventricular dilatation{volume}.",
        f"LV is {ly(grade_)} enlarged{volume}.",
        f"There is {grade_} dilation of the left ventricle{volume}.",
    )


def _left_function(rng: np.random.Generator, truth: Truth, reading: Reading, name: str) -> str:
    number = _fraction(rng, name, truth.lvef)
    grade_ = reading.lv_function
    if not grade_ and truth.lvef > 72.0:
        return _pick(rng, f"Hyperdynamic left ventricular function, {number}.", f"LV is hyperdynamic, {number}.")
    if not grade_:
        return _pick(
            rng,
            f"Left ventricular systolic function is normal, {number}.",
            f"Preserved LV systolic function with {number}.",
            f"Normal global LV systolic function ({number}).",
            f"Systolic function of the left ventricle is preserved, {number}.",
        )
    return _pick(
        rng,
        f"Left ventricular systolic function is {ly(grade_)} reduced, {number}.",
        f"{grade_.capitalize()} LV systolic dysfunction with {number}.",
        f"{ly(grade_).capitalize()} impaired global LV systolic function ({number}).",
        f"Global systolic function is {ly(grade_)} depressed, {number}.",
    )


def _wall(rng: np.random.Generator, truth: Truth, reading: Reading) -> str:
    thick = round(truth.wall_max)
    grade_ = reading.wall
    if not grade_:
        number = _pick(rng, f" ({thick} mm)", "", "", f", maximum {thick} mm")
        return _pick(
            rng,
            f"Wall thickness is normal{number}.",
            f"Normal LV wall thickness{number}.",
            "No left ventricular hypertrophy.",
        )
    mass = _pick(rng, f" LV mass {truth.mass:.0f} g.", "")
    where = "asymmetric septal" if reading.septal else "concentric"
    wall = "septum" if reading.septal else "wall"
    return mass.strip() + (" " if mass else "") + _pick(
        rng,
        f"{grade_.capitalize()} {where} hypertrophy with a maximal wall thickness of {thick} mm.",
        f"There is {grade_} {where} left ventricular hypertrophy, {wall} measuring up to {thick} mm.",
        f"{where.capitalize()} LVH, {grade_}; maximum wall thickness {thick} mm.",
        f"The {wall} is {ly(grade_)} thickened at {thick} mm in {'an ' if reading.septal else 'a '}{where} pattern.",
    )  # fmt: skip


def _territory(reading: Reading) -> tuple[str, str]:
    """The adjective of the territory and the walls it names."""
    return {
        "anterior": ("anterior", "anterior and anteroseptal walls"),
        "inferior": ("inferior", "inferior wall"),
        "lateral": ("lateral", "lateral wall"),
    }[reading.territory]


def _motion(rng: np.random.Generator, reading: Reading) -> str:
    if not reading.territory:
        if reading.lv_function:
            extent = "Mild global" if reading.lv_function == "mild" else "Global"
            return _pick(rng, f"{extent} hypokinesis.", f"{extent} hypokinesis without a regional pattern.")
        return _pick(
            rng,
            "No regional wall motion abnormality.",
            "Wall motion is normal.",
            "There are no regional wall motion abnormalities.",
        )
    adjective, walls = _territory(reading)
    thin = _pick(rng, " with wall thinning", " and thinning") if reading.thinned else ""
    verb = reading.motion.replace("kinesis", "kinetic")
    return _pick(
        rng,
        f"Regional {reading.motion} of the {walls}{thin}.",
        f"There is {reading.motion}{thin} in the {adjective} territory.",
        f"The {walls} {'are' if walls.endswith('s') else 'is'} {verb}{' and thinned' if thin else ''}.",
        f"Regional wall motion abnormality: {adjective} {reading.motion}{thin}.",
    )


def _right(rng: np.random.Generator, truth: Truth, reading: Reading) -> str:
    size, function = reading.rv_size, reading.rv_function
    number = _pick(rng, f" (RVEF {truth.rv_ef:.0f}%)", f" (RV EDV {truth.rv_edv:.0f} mL, RVEF {truth.rv_ef:.0f}%)", "")
    if not size and not function:
        return _pick(
            rng,
            f"The right ventricle is normal in size and function{number}.",
            f"Normal RV size and systolic function{number}.",
            f"Right ventricular volumes and function are normal{number}.",
        )
    how_big = f"{ly(size)} dilated" if size else "normal in size"
    how_good = f"{ly(function)} reduced systolic function" if function else "preserved systolic function"
    flat = ""
    if reading.flattened:
        flat = _pick(rng, " The interventricular septum is flattened.", " Septal flattening (D-shaped LV).", "")
    return _pick(
        rng,
        f"The right ventricle is {how_big} with {how_good}{number}.{flat}",
        f"RV {how_big}, {how_good}{number}.{flat}",
        f"Right ventricle: {how_big}; {how_good}{number}.{flat}",
    )


def _atria(rng: np.random.Generator, reading: Reading) -> str:
    left, right = reading.left_atrium, reading.right_atrium
    if left and right:
        return f"Biatrial enlargement, {left} on the left and {right} on the right."
    if left:
        return _pick(rng, f"{left.capitalize()} left atrial enlargement.", f"The left atrium is {ly(left)} dilated.")
    if right:
        return _pick(
            rng, f"{right.capitalize()} right atrial enlargement.", f"The right atrium is {ly(right)} dilated."
        )
    return _pick(rng, "The atria are normal in size.", "Normal atrial size.", "", "No atrial enlargement.")


def _conclusions(rng: np.random.Generator, truth: Truth, reading: Reading) -> list[str]:
    """The impression's statements, most important first."""
    ef = _fraction(rng, "LVEF", truth.lvef)
    out = []
    if reading.territory:
        adjective, _ = _territory(reading)
        out.append(
            _pick(
                rng,
                f"Regional wall motion abnormality in the {adjective} territory, consistent with prior infarction.",
                f"{adjective.capitalize()} wall {reading.motion}, suggesting ischaemic heart disease.",
                f"Findings in keeping with previous {adjective} myocardial infarction.",
            )
        )
    if reading.wall:
        where = "asymmetric septal" if reading.septal else "concentric"
        out.append(
            _pick(
                rng,
                f"{reading.wall.capitalize()} {where} left ventricular hypertrophy ({truth.wall_max:.0f} mm).",
                f"{where.capitalize()} LVH up to {truth.wall_max:.0f} mm, suggestive of hypertrophic cardiomyopathy.",
                f"Hypertrophic cardiomyopathy phenotype, {where}, {reading.wall}.",
            )
        )
    out.append(_left_conclusion(rng, reading, ef))
    if reading.rv_size or reading.rv_function:
        big = f"{reading.rv_size} RV dilatation" if reading.rv_size else "Normal RV size"
        bad = f"{reading.rv_function} RV systolic dysfunction" if reading.rv_function else "preserved RV function"
        statement = _pick(rng, f"{big} with {bad}.", f"{big} and {bad}, RVEF {truth.rv_ef:.0f}%.")
        out.insert(0 if truth.targets.group == "right-ventricular" else len(out), statement[:1].upper() + statement[1:])
    elif rng.random() < 0.4:
        out.append("Normal right ventricular size and function.")
    return out


def _left_conclusion(rng: np.random.Generator, reading: Reading, ef: str) -> str:
    size, function = reading.lv_size, reading.lv_function
    if size and function:
        return _pick(
            rng,
            f"{size.capitalize()} LV dilatation with {ly(function)} reduced systolic function, {ef}.",
            f"{ly(size).capitalize()} dilated left ventricle, {function} systolic dysfunction ({ef}).",
            f"Dilated left ventricle ({size}) with {function} LV systolic impairment; {ef}.",
        )
    if function:
        return f"{function.capitalize()} LV systolic dysfunction, {ef}, with normal LV size."
    if size:
        return f"{size.capitalize()} LV dilatation with preserved systolic function, {ef}."
    return _pick(
        rng,
        f"Normal LV size and systolic function, {ef}.",
        f"Preserved left ventricular ejection fraction ({ef}).",
        f"Left ventricle of normal size and function, {ef}.",
    )


def sections(
    rng: np.random.Generator, indication_rng: np.random.Generator, truth: Truth, *, prior_date: str = ""
) -> Sections:
    """One report.

    Args:
        indication_rng: a stream that knows nothing of the disease.
        prior_date: YYYYMMDD of the study before, "" for none.
    """
    who = truth.targets
    sex = "male" if who.sex == "M" else "female"
    question = _pick(indication_rng, *_QUESTIONS)
    indication = _pick(
        indication_rng,
        f"{who.age} year old {sex} with {_pick(indication_rng, *_SYMPTOMS)}. {question}",
        f"{_pick(indication_rng, *_SYMPTOMS).capitalize()}. {question}",
        f"{who.age}-year-old {sex}, {_pick(indication_rng, *_SYMPTOMS)}. {question}",
    ).strip()
    technique = _pick(indication_rng, *_TECHNIQUE)
    comparison = ""
    if prior_date:
        date = f"{prior_date[:4]}-{prior_date[4:6]}-{prior_date[6:]}"
        comparison = _pick(indication_rng, f"Cardiac MRI of {date}.", f"Prior cardiac MRI dated {date}.")
    elif indication_rng.random() < 0.3:
        comparison = _pick(indication_rng, "None.", "No prior cardiac MRI available.")
    findings, impression = _body(rng, truth)
    return Sections(indication, technique, comparison, findings, impression)


def _body(rng: np.random.Generator, truth: Truth) -> tuple[str, str]:
    reading = read(truth)
    unremarkable = not any((reading.lv_size, reading.lv_function, reading.wall, reading.rv_size, reading.rv_function))
    template = truth.targets.group == "normal" and rng.random() < 0.7
    if template and unremarkable and not reading.left_atrium and not reading.right_atrium:
        return _NORMAL_TEMPLATES[int(rng.choice(len(_NORMAL_TEMPLATES), p=(0.5, 0.3, 0.2)))]
    name = _pick(rng, "LVEF", "LVEF", "ejection fraction", "EF")
    left = [_left_size(rng, truth, reading), _left_function(rng, truth, reading, name)]
    rest = [_wall(rng, truth, reading), _motion(rng, reading)]
    if rng.random() < 0.3:
        left.reverse()
    if rng.random() < 0.4:
        rest.reverse()
    sentences = [*left, *rest, _right(rng, truth, reading), _atria(rng, reading)]
    if rng.random() < 0.12:
        sentences = [sentences[4], *sentences[:4], sentences[5]]
    sentences = [sentence for sentence in sentences if sentence]
    findings = ("\n- " if rng.random() < 0.2 else " ").join(sentences)
    if "\n- " in findings:
        findings = "- " + findings
    statements = _conclusions(rng, truth, reading)
    if rng.random() < 0.6 and len(statements) > 1:
        return findings, "\n".join(f"{i}. {text}" for i, text in enumerate(statements, 1))
    return findings, " ".join(statements)


def letterhead(patient_name: str, study_date: str) -> list[str]:
    """What de-identification must take away again, above the report; `patient_name` is "Family^Given"."""
    return [f"Patient: {patient_name.replace('^', ', ')}", f"Date of exam: {study_date}", ""]


def signature(physician: str) -> list[str]:
    return ["", f"Electronically signed by Dr {physician.replace('^', ' ')}"]


def compose(rng: np.random.Generator, parts: Sections, *, patient_name: str, study_date: str, physician: str) -> str:
    """The document: at times with the letterhead and signature that de-identification must take away again."""
    upper = rng.random() < 0.8
    inline = rng.random() < 0.5
    lines = []
    if rng.random() < 0.3:
        lines += letterhead(patient_name, study_date)
    for field in dataclasses.fields(parts):
        text = getattr(parts, field.name)
        if text:
            title = field.name.upper() if upper else field.name.capitalize()
            lines.append(f"{title}:{' ' if inline else chr(10)}{text}")
    if rng.random() < 0.15:
        lines += signature(physician)
    return "\n".join(lines)
