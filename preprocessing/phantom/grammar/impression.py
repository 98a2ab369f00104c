"""The IMPRESSION of a report: what was found, the disease it speaks for, and how sure the author is of that.

A disease is named only where the acquired pictures show something that speaks for it, and the more mildly it is
expressed the more carefully.
"""

from collections.abc import Callable, Iterable

from preprocessing.phantom.findings import Findings, Scar
from preprocessing.phantom.grammar import topics
from preprocessing.phantom.grammar.authors import Author
from preprocessing.phantom.grammar.reading import Reading
from preprocessing.phantom.grammar.rules import Speaker
from preprocessing.phantom.grammar.topics import is_faint, kind

_SURENESS = ("possible", "probable", "definite")
_SURE_FROM = (0.15, 0.4)  # severity from which a disease is probable, and definite
_HYPERTROPHIC = ("hypertrophic_septal", "hypertrophic_apical", "hypertrophic_concentric")
_SEEN_ON_CINES = (*_HYPERTROPHIC, "dilated", "noncompaction", "rv_overload")  # of the others they prove no cause
_INFLAMED = ("subepicardial", "mid-wall")


class Concluder:
    """Says the impression of one report."""

    def __init__(self, speaker: Speaker, author: Author, findings: Findings, reading: Reading):
        self.speaker, self.author, self.findings, self.reading = speaker, author, findings, reading
        self.used: set[str] = set()  # what was said as a feature of a disease and need not be said again

    def statements(self) -> list[str]:
        """Sentences, the most important first."""
        if self.is_normal():
            return self._normal()
        out = [text for disease, severity in self.findings.diseases if (text := self._disease(disease, severity))]
        out += self._left()
        out += self._remaining()
        out += self._negatives()
        if self.speaker.chance(0.5):
            out.append(topics.change(self.speaker, self.findings, self.reading))
        if self.speaker.chance(0.1):
            out.append(self.speaker.sentence("advice", months=("3", "6", "12")[int(self.speaker.rng.integers(3))]))
        return [text for text in out if text]

    def is_normal(self) -> bool:
        """Whether nothing that was seen is out of the ordinary."""
        reading = self.reading
        seen = reading.motion or reading.scars or any(reading.raised.values()) or any(reading.grades.values())
        seen = seen or topics.is_flat(self.findings) or topics.is_bulging(self.findings)
        trabeculated = self.findings.trabeculated and reading.method
        return not (seen or trabeculated or "effusion" in reading.numbers or reading.thin)

    def _normal(self) -> list[str]:
        whole = {"lv_size", "rv_size", "la_size"} <= set(self.reading.grades)
        out = self._left() if self.speaker.chance(0.25) else []
        out = out or [self.speaker.sentence("concl.normal" if whole else "concl.limited")]
        return [*out, *self._negatives()]

    def _disease(self, disease: str, severity: float) -> str:
        """The statement of one disease; "" where nothing that was seen speaks for it."""
        evidence: Callable[[], tuple[list[str], str]] | None = getattr(self, f"_{_family(disease)}", None)
        if evidence is None:
            return ""
        before = set(self.used)
        features, name = evidence()
        if not features:
            return ""
        if before and not self.used - before:
            return self.speaker.sentence("dx.also", name=name)
        noisy = severity + 0.1 * self.speaker.rng.normal() - self.author.hedging
        sure = sum(noisy > limit for limit in _SURE_FROM)
        if disease == "ischaemic" and any(s.territory and not is_faint(s) for s in self.reading.scars):
            sure = max(sure, 1)  # the pattern alone tells
        if disease not in _SEEN_ON_CINES and not any(name.startswith("lge_") for name in self.findings.acquired):
            sure = min(sure, 1)
        return self.speaker.sentence(f"dx.{_SURENESS[sure]}", features=_joined(features), name=name)

    def _say(self, rule: str, used: str, **values: str) -> str:
        self.used.add(used)
        return self.speaker.say(rule, **values)

    def _scars(self, wanted: Callable[[Scar], bool]) -> list[str]:
        return [self._scar(scar) for scar in self.reading.scars if wanted(scar)]

    def _scar(self, scar: Scar) -> str:
        say = self.speaker.say
        self.used.add(f"scar {self.reading.scars.index(scar)}")
        if scar.pattern in ("insertion", "diffuse"):
            return say(f"np.scar.{scar.pattern}")
        territory = say("territory", vessel=say(f"vessel.{scar.territory}")) if scar.territory else ""
        where = topics.placed(self.author, scar.segments)
        return say("np.scar", pattern=say(f"pattern.{topics.pattern(scar)}"), territory=territory, **where)

    def _abnormal(self, name: str) -> bool:
        return self.reading.grades.get(name, "") not in ("", "borderline")

    def _wall(self) -> list[str]:
        return [self._say(f"np.wall.{self.reading.shape}", "wall")] if self._abnormal("wall") else []

    def _map(self, name: str) -> list[str]:
        return [self._say(f"np.{name}", name)] if self.reading.raised.get(name) else []

    def _ventricle(self) -> list[str]:
        if not self._abnormal("lv_function"):
            return []
        return [self._say("np.lv" if self._abnormal("lv_size") else "np.lv.function", "lv")]

    def _rv(self) -> list[str]:
        size, function = self._abnormal("rv_size"), self._abnormal("rv_function")
        if not size and not function:
            return []
        return [self._say("np.rv" if size and function else "np.rv.size" if size else "np.rv.function", "rv")]

    def _right_sign(self, name: str, shown: bool) -> list[str]:
        return [self._say(f"np.{name}", name)] if shown else []

    def _of_dilated(self) -> tuple[list[str], str]:
        if not (self._abnormal("lv_size") and self._abnormal("lv_function")):
            return [], ""
        told = any(name.startswith("lge_") for name in self.findings.acquired)
        told = told and not any(scar.territory for scar in self.reading.scars)
        features = [*self._ventricle(), *self._scars(lambda scar: scar.pattern == "mid-wall")]
        return features, self.speaker.say("name.dilated.lge" if told else "name.dilated")

    def _of_ischaemic(self) -> tuple[list[str], str]:
        scars = [scar for scar in self.reading.scars if scar.territory]
        if scars:
            features, vessel = [self._scar(scar) for scar in scars], self.speaker.say(f"vessel.{scars[0].territory}")
            low = self._abnormal("lv_function") and self.speaker.chance(0.4)
            name = self.speaker.say(f"name.ischaemic.{'low' if low else 'lge'}", vessel=vessel)
            return [*features, *self._matching(_segments(scars))], name
        regional = self.reading.motion and not topics.is_global(self.reading, self.findings.acquired)
        if not regional:
            return [], ""
        said = topics.motions(self.speaker, self.author, self.reading.motion)
        return [self._say("np.motion", "motion", motions=said)], self.speaker.say("name.ischaemic")

    def _matching(self, scarred: set[int]) -> list[str]:
        """Motion that is bad where the scar is."""
        moved = {name: set(where) for name, where in self.reading.motion.items()}
        everywhere = set().union(*moved.values())
        if not everywhere or len(everywhere & scarred) < 0.7 * len(everywhere):
            return []
        kind = topics.noun(max(moved, key=lambda name: len(moved[name])))
        return [self._say("np.motion.same", "motion", kind=kind)]

    def _of_hypertrophic(self) -> tuple[list[str], str]:
        walls = self._wall()
        names = {"septal": _HYPERTROPHIC[0], "apical": _HYPERTROPHIC[1], "concentric": _HYPERTROPHIC[2]}
        scars = self._scars(lambda scar: not scar.territory) if walls else []
        return [*walls, *scars], self.speaker.say(f"name.{names[self.reading.shape]}")

    def _of_amyloid(self) -> tuple[list[str], str]:
        tissue = [*self._scars(lambda scar: not scar.territory), *self._map("t1")]
        walls = self._wall()
        name = self.speaker.say("name.amyloid" if tissue else "name.hypertensive")
        return [*walls, *tissue], name

    def _of_myocarditis(self) -> tuple[list[str], str]:
        edema = self._map("t2")
        features = [*self._scars(lambda scar: scar.pattern in _INFLAMED), *edema, *self._map("t1")]
        features += self._matching(_segments(scar for scar in self.reading.scars if scar.pattern in _INFLAMED))
        return features, self.speaker.say("name.myocarditis.acute" if edema else "name.myocarditis")

    def _of_sarcoid(self) -> tuple[list[str], str]:
        scars = self._scars(lambda scar: not scar.territory)
        matching = self._matching(_segments(scar for scar in self.reading.scars if not scar.territory))
        return [*scars, *(self._map("t2") if scars else []), *matching], self.speaker.say("name.sarcoid")

    def _of_arvc(self) -> tuple[list[str], str]:
        right = [*self._rv(), *self._right_sign("rv_bulging", topics.is_bulging(self.findings))]
        return [*right, *(self._scars(lambda scar: not scar.territory) if right else [])], self.speaker.say("name.arvc")

    def _of_rv_overload(self) -> tuple[list[str], str]:
        right = self._rv()
        flat = self._right_sign("flattening", bool(right) and topics.is_flat(self.findings))
        insertion = self._scars(lambda scar: scar.pattern == "insertion") if right else []
        return [*right, *flat, *insertion], self.speaker.say("name.rv_overload")

    def _of_noncompaction(self) -> tuple[list[str], str]:
        if not self.findings.trabeculated or not self.reading.method:
            return [], ""
        said = self._say("np.trabeculated", "trabeculated", ratio=topics.NONCOMPACTED)
        return [said, *self._ventricle()], self.speaker.say("name.noncompaction")

    def _left(self) -> list[str]:
        """Size and function with the ejection fraction, which no impression leaves out once it was said to be low."""
        if not self.reading.method:
            return []
        size, function = kind(self.reading, "lv_size"), kind(self.reading, "lv_function")
        if function == "borderline" and size != "large":
            return [self.speaker.sentence("lv_function.borderline")]
        if "lv" in self.used or "borderline" in (size, function):
            return [self.speaker.sentence("concl.lv.plain")]
        which = {(True, True): "both", (True, False): "size", (False, True): "function", (False, False): "normal"}
        return [self.speaker.sentence(f"concl.lv.{which[size == 'large', function == 'low']}")]

    def _remaining(self) -> list[str]:
        """What is abnormal and belongs to no disease that was named."""
        say, out = self.speaker, []
        if "wall" not in self.used:
            out += self._wall()
        everywhere = topics.is_global(self.reading, self.findings.acquired)
        if "motion" not in self.used and self.reading.motion and not (everywhere and self._abnormal("lv_function")):
            out += [self._motion()]
        out += [self._scar(scar) for at, scar in enumerate(self.reading.scars) if f"scar {at}" not in self.used]
        scarred = _segments(self.reading.scars)
        for name, raised in self.reading.raised.items():  # a scar's own relaxation is no finding of its own
            if name not in self.used and not (scarred and set(raised) <= scarred):
                out += self._map(name)
        if "trabeculated" not in self.used and self.findings.trabeculated and self.reading.method:
            out.append(say.say("np.trabeculated", ratio=topics.NONCOMPACTED))
        out += self._right_sign("flattening", "flattening" not in self.used and topics.is_flat(self.findings))
        bulging = "rv_bulging" not in self.used and topics.is_bulging(self.findings)
        out += self._right_sign("rv_bulging", bulging)
        sentences = [say.sentence("concl.other", features=text) for text in out]
        if "rv" not in self.used and (right := self._rv()):
            sentences.append(say.sentence("concl.rv", features=right[0]))
        for name in ("la", "ra"):
            if self._abnormal(f"{name}_size") and say.chance(0.5):
                sentences.append(say.sentence(f"concl.{name}"))
        if self.reading.numbers.get("effusion", 0) >= 5:
            size = "small" if self.reading.numbers["effusion"] < 10 else "moderate"
            size = size if self.reading.numbers["effusion"] < 20 else "large"
            sentences.append(say.sentence("fluid.some", effusion_size=size))
        return sentences

    def _motion(self) -> str:
        if topics.is_global(self.reading, self.findings.acquired):
            return self.speaker.say("motion.global")
        return self.speaker.say("np.motion", motions=topics.motions(self.speaker, self.author, self.reading.motion))

    def _negatives(self) -> list[str]:
        say, reading, out = self.speaker, self.reading, []
        if "rv_size" in reading.grades and not (reading.grades["rv_size"] or reading.grades["rv_function"]):
            out += [say.sentence("concl.rv.normal")] if say.chance(0.5 * self.author.negatives) else []
        shown = any(name.startswith("lge_") for name in self.findings.acquired)
        if shown and not reading.scars:
            out += [say.sentence("concl.scar.none")] if say.chance(self.author.negatives) else []
            healthy = all(disease == "normal" for disease, _ in self.findings.diseases)
            if healthy and self.is_normal() and say.chance(0.2):
                out.append(say.sentence("concl.healthy"))
        return out


def _segments(scars: Iterable[Scar]) -> set[int]:
    return {segment for scar in scars for segment in scar.segments}


def _family(disease: str) -> str:
    return "of_hypertrophic" if disease in _HYPERTROPHIC else f"of_{disease}"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
