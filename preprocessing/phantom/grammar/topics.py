"""The FINDINGS of a report: one statement after another, topic by topic, of what the reader saw and measured."""

from collections.abc import Callable, Mapping, Sequence

from preprocessing.phantom.findings import Findings, Scar
from preprocessing.phantom.grammar.authors import Author
from preprocessing.phantom.grammar.reading import HYPERDYNAMIC, Reading
from preprocessing.phantom.grammar.rules import Speaker, as_sentence
from preprocessing.phantom.grammar.segments import describe, shown
from preprocessing.phantom.reports import ly

_METHODS = {"volumetry": "short-axis volumetry", "biplane": "the biplane method", "visual": "visual estimation"}
WIDESPREAD = 12  # segments that a map shows abnormal: "diffuse"
_FAINT = 0.25  # a lesion less deep than that of the wall may be doubted
_SUBTLE = 50.0  # percent; regional hypokinesis of a heart that pumps better may be doubted
_CLASSES = ((0.25, "1-25"), (0.5, "26-50"), (0.75, "51-75"), (2.0, "76-100"))  # Kim et al., NEJM 2000
_GLOBAL = 0.65  # so much of what is seen moves too little: "global"
_NUMBERED = 6  # more segments than that nobody numbers
NONCOMPACTED = "2.3"  # non-compacted to compacted at end-diastole (Petersen et al., JACC 2005)


def grade_values(reading: Reading) -> dict[str, str]:
    """{lv_size} "mild" and {lv_size_ly} "mildly", of grades that are clearly abnormal."""
    clear = {name: g for name, g in reading.grades.items() if g not in ("", "borderline")}
    return clear | {f"{name}_ly": " to ".join(map(ly, g.split(" to "))) for name, g in clear.items()} | (
        {"method_words": _METHODS[reading.method]} if reading.method else {}
    )  # fmt: skip


def kind(reading: Reading, name: str) -> str:
    """How a grade is spoken of: "normal", "borderline" or "large"; for functions the last is "low"."""
    found = reading.grades[name]
    if found in ("", "borderline"):
        return found or "normal"
    return "low" if name.endswith("function") else "large"


def is_global(reading: Reading, acquired: frozenset[str]) -> bool:
    """Whether the ventricle moves too little as a whole rather than in places."""
    seen = shown(acquired, "cine")
    little, moved = len(reading.motion.get("hypokinetic", ())), sum(map(len, reading.motion.values()))
    infarcted = any(scar.territory for scar in reading.scars)
    return bool(seen) and moved >= _GLOBAL * len(seen) and 2 * little > moved and not infarcted


def is_flat(findings: Findings) -> bool:
    """Whether the septum is flat, as the short axis shows."""
    return findings.septal_flattening and "cine_sax" in findings.acquired


def is_bulging(findings: Findings) -> bool:
    """Whether the free wall of the right ventricle is seen to bulge."""
    return findings.rv_bulging and bool(findings.acquired & {"cine_sax", "cine_4ch"})


def placed(author: Author, segments: Sequence[int]) -> dict[str, str]:
    """{where} "the apex", {segments} the same without its article, {be} "is" or "are"."""
    words = describe(segments)
    where = words if words.startswith("all ") else f"the {words}"
    if author.numbered_segments and len(segments) <= _NUMBERED:
        numbers = ", ".join(map(str, segments))
        where += f" (segment{'s' if len(segments) > 1 else ''} {numbers})"
    several = " and " in words or "walls" in words or words.startswith("all ")
    return {"where": where, "segments": words, "be": "are" if several else "is"}


def motions(speaker: Speaker, author: Author, moved: Mapping[str, Sequence[int]], *, nouns: bool = True) -> str:
    """ "akinesis of the apex and hypokinesis of the mid anterior wall", or "the apex is akinetic": the worst first."""
    parts = [
        speaker.say("motion.one" if nouns else "motion.be", kind=noun(name), kinetic=name, **placed(author, where))
        for name in ("dyskinetic", "akinetic", "hypokinetic")
        if (where := moved.get(name))
    ]
    return " and ".join(parts)


def noun(motion: str) -> str:
    return motion.replace("kinetic", "kinesis")


def depth_class(scar: Scar) -> str:
    return next(words for limit, words in _CLASSES if scar.transmurality <= limit)


def pattern(scar: Scar) -> str:
    """The pattern by its name: an infarct is transmural where more than three quarters of the wall enhance."""
    if scar.territory:
        return "transmural" if scar.transmurality > _CLASSES[2][0] else "subendocardial"
    return scar.pattern


def is_faint(scar: Scar) -> bool:
    return scar.transmurality < _FAINT and scar.pattern != "insertion"


class Finder:
    """Says the findings of one report. Each topic gives sentences; what no acquired series shows gives none."""

    def __init__(self, speaker: Speaker, author: Author, findings: Findings, reading: Reading):
        self.speaker, self.author, self.findings, self.reading = speaker, author, findings, reading

    def topics(self) -> dict[str, list[str]]:
        """Sentences by topic, in the author's order; topics of which nothing is said are left out."""
        said = {topic: [s for s in self._of(topic)() if s] for topic in self.author.topics}
        return {topic: sentences for topic, sentences in said.items() if sentences}

    def _of(self, topic: str) -> Callable[[], Sequence[str]]:
        return getattr(self, f"_{topic}")

    def _names_absent(self) -> bool:
        return self.speaker.chance(self.author.negatives)

    def _placed(self, segments: Sequence[int]) -> dict[str, str]:
        return placed(self.author, segments)

    def _quality(self) -> list[str]:
        say = self.speaker.sentence
        out = [say("quality.breathing")] if self.findings.breathing else []
        if self.findings.rhythm != "sinus":
            out.append(say(f"quality.{self.findings.rhythm}"))
        return out or ([say("quality.good")] if self._names_absent() else [])

    def _left(self) -> list[str]:
        if not self.reading.method:
            return []
        say, numbers = self.speaker.sentence, self.reading.numbers
        volumes = "edv" in numbers and not self.author.table and self.speaker.chance(0.5)
        sizer = self.speaker.without("edv", "edvi") if volumes else self.speaker
        out = [sizer.sentence(f"lv_size.{kind(self.reading, 'lv_size')}")]
        function = kind(self.reading, "lv_function")
        high = function == "normal" and numbers["lvef"] > HYPERDYNAMIC
        out.append(say(f"lv_function.{'high' if high else function}"))
        if self.speaker.chance(0.3):
            out.reverse()
        if volumes:
            out.append(say("volumes"))
        return out

    def _wall(self) -> list[str]:
        if not self.reading.method:
            return []
        say = self.speaker.sentence
        thickest = describe(self.reading.thickest)
        if kind(self.reading, "wall") == "large":
            out = [say(f"wall.{self.reading.shape}", thickest=thickest)]
        else:
            out = [say("wall.normal")]
        if self.reading.thin:
            out.append(say("thin", thin=self._placed(self.reading.thin)["where"]))
        if "mass" in self.reading.numbers and not self.author.table and self.speaker.chance(0.4):
            out.append(say("mass"))
        if self.findings.trabeculated:
            out.append(say("trabeculated", ratio=NONCOMPACTED))
        elif self.speaker.chance(0.1 * self.author.negatives):
            out.append(say("trabeculated.not"))
        return out

    def _motion(self) -> list[str]:
        if not self.reading.method:
            return []
        say, moved = self.speaker.sentence, self.reading.motion
        if is_global(self.reading, self.findings.acquired):
            out = [say("motion.global")]
            if rest := {name: where for name, where in moved.items() if name != "hypokinetic"}:
                out.append(as_sentence(motions(self.speaker, self.author, rest)))
        elif not moved:
            weak = self.reading.grades["lv_function"] not in ("", "borderline", "mild")
            out = [say("motion.global" if weak else "motion.normal")]
        elif set(moved) == {"hypokinetic"} and self.reading.numbers["lvef"] > _SUBTLE and self.speaker.chance(0.5):
            out = [say("motion.maybe", **self._placed(moved["hypokinetic"]))]
        elif "hypokinetic" not in moved and self.speaker.chance(0.5):
            out = [as_sentence(motions(self.speaker, self.author, moved, nouns=False))]
        else:
            out = [say("motion.regional", motions=motions(self.speaker, self.author, moved))]
        bulging = moved.get("dyskinetic")
        if self.findings.aneurysm and bulging:
            out.append(say("aneurysm", **self._placed(bulging)))
        if (self.findings.aneurysm or moved.get("akinetic")) and self._names_absent():
            out.append(say("thrombus.not"))
        return out

    def _right(self) -> list[str]:
        if "rv_size" not in self.reading.grades:
            return []
        say = self.speaker
        size, function = kind(self.reading, "rv_size"), kind(self.reading, "rv_function")
        if size == function == "normal":
            out = [say.say("rv.normal")]
        else:
            out = [say.say("rv.abnormal", rv_big=say.say(f"rv_big.{size}"), rv_good=say.say(f"rv_good.{function}"))]
        if "rvef" not in self.reading.numbers:
            out[0] += say.say("by_eye")
        if is_flat(self.findings):
            out.append(say.say("flattening"))
        if is_bulging(self.findings):
            out.append(say.say("rv_bulging"))
        return [as_sentence(text) for text in out]

    def _atrium(self) -> list[str]:
        found = {
            name: kind(self.reading, f"{name}_size") for name in ("la", "ra") if f"{name}_size" in self.reading.grades
        }
        if found == {"la": "normal", "ra": "normal"} and self.speaker.chance(0.6):
            return [self.speaker.sentence("atria.normal")] if self._names_absent() else []
        return [
            self.speaker.sentence(f"{name}.{how}")
            for name, how in found.items()
            if how != "normal" or self._names_absent()
        ]

    def _lge(self) -> list[str]:
        if not any(name.startswith("lge_") for name in self.findings.acquired):
            return []
        if not self.reading.scars:
            return [self.speaker.sentence("scar.none")]
        out = [self.scar(scar) for scar in self.reading.scars]
        if self.speaker.chance(0.25 * self.author.negatives):
            out.append(self.speaker.sentence("scar.no_more"))
        return out

    def scar(self, scar: Scar) -> str:
        """One lesion in a sentence."""
        say = self.speaker
        words = self._placed(scar.segments) | {"pattern": say.say(f"pattern.{pattern(scar)}")}
        if scar.pattern == "insertion":
            return say.sentence("scar.insertion", **words)
        doubted = is_faint(scar) and say.chance(0.4 + self.author.hedging)
        if scar.pattern == "diffuse":
            return say.sentence("scar.diffuse.maybe" if doubted else "scar.diffuse", **words)
        if doubted:
            return say.sentence("scar.maybe", **words)
        ischaemic = bool(scar.territory)
        depth = say.say("depth", depth_class=depth_class(scar)) if ischaemic else ""
        where = say.say("territory", vessel=say.say(f"vessel.{scar.territory}")) if ischaemic else ""
        sentence = say.sentence("scar.some", depth=depth, territory=where, **words)
        if ischaemic and say.chance(0.3):
            sentence += " " + say.sentence("viable" if scar.transmurality <= 0.5 else "viable.not")
        return sentence

    def _maps(self) -> list[str]:
        out = []
        for name, where in self.reading.raised.items():
            if not where:
                out.append(self.speaker.sentence(f"{name}.normal"))
            elif len(where) >= WIDESPREAD:
                out.append(self.speaker.sentence(f"{name}.high"))
            else:
                out.append(self.speaker.sentence(f"{name}.focal", **self._placed(where)))
        return out

    def _fluid(self) -> list[str]:
        if not self.reading.method:
            return []
        depth = self.reading.numbers.get("effusion")
        if depth is None:
            return [self.speaker.sentence("fluid.none")] if self._names_absent() else []
        size = "trace" if depth < 5 else "small" if depth < 10 else "moderate" if depth < 20 else "large"
        return [self.speaker.sentence("fluid.some", effusion_size=size)]

    def _change(self) -> list[str]:
        found = change(self.speaker, self.findings, self.reading)
        return [found] if found and self.speaker.chance(0.6) else []


def change(speaker: Speaker, findings: Findings, reading: Reading) -> str:
    """A sentence on the ejection fraction since the visit before; "" where there is none to compare with."""
    before = findings.prior_lvef
    if before is None or not findings.prior_date or "lvef" not in reading.numbers:
        return ""
    difference = reading.numbers["lvef"] - round(before)
    alike = (
        "same"
        if speaker.values["lvef"] == speaker.values["prior_lvef"] or "-" not in speaker.values["lvef"]
        else "about"
    )
    way = alike if abs(difference) < 5 else "up" if difference > 0 else "down"
    if way == "down" and not reading.grades["lv_function"]:
        way = "normal"
    return speaker.sentence(f"change.{way}")
