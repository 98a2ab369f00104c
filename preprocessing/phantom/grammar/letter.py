"""The whole letter of a clinical phantom: sections as real reports have them, in the way of one of several authors.

What is said follows from `findings.Findings` as one reader reads them (`reading`); how it is said, from the
author (`authors`) and the phrases (`phrases.yaml`, `letter.yaml`). Nothing is said of what no acquired
series could show.
"""

import dataclasses

import numpy as np

from preprocessing.phantom.findings import DISEASES, Findings
from preprocessing.phantom.grammar import authors, layout, reading
from preprocessing.phantom.grammar.authors import AUTHORS, Author
from preprocessing.phantom.grammar.impression import Concluder
from preprocessing.phantom.grammar.reading import Reading
from preprocessing.phantom.grammar.rules import Speaker, as_sentence
from preprocessing.phantom.grammar.topics import WIDESPREAD, Finder, grade_values
from preprocessing.phantom.reports import Sections

_OWN_REFERRAL = 0.5  # else a reason that any patient may have: the indication must not give the disease away
_PLANES = ("sax", "2ch", "3ch", "4ch")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Who writes, and what was read."""

    author: Author
    reading: Reading


def plan(rng: np.random.Generator, findings: Findings) -> Plan:
    """Draws the author and the reading; `compose` does so first, so the same `rng` tells what a letter may state."""
    author = AUTHORS[int(rng.integers(len(AUTHORS)))]
    return Plan(author, reading.read(rng, findings))


def compose(rng: np.random.Generator, findings: Findings, *, patient_name: str, study_date: str, physician: str) -> str:
    """The letter: a function of `rng` and the arguments alone.

    Args:
        patient_name: "Family^Given"; at times in a letterhead, for de-identification to take away.
        study_date: YYYYMMDD.
        physician: "Family^Given"; at times signs.
    """
    drawn = plan(rng, findings)
    parts = sections(rng, findings, drawn)
    letter = layout.Letter(rng, drawn.author)
    addendum = ""
    if rng.random() < 0.04:
        addendum = _speaker(rng, findings, drawn).sentence("addendum")
    return letter.text(parts, addendum=addendum, patient_name=patient_name, study_date=study_date, physician=physician)


def sections(rng: np.random.Generator, findings: Findings, drawn: Plan) -> Sections:
    """The five sections; `comparison` is "" where the author leaves it out."""
    speaker = _speaker(rng, findings, drawn)
    author, reading = drawn.author, drawn.reading
    technique = _technique(speaker, author, findings)
    comparison = _comparison(speaker, author, findings)
    concluder = Concluder(speaker, author, findings, reading)
    indication = _indication(speaker, findings, unremarkable=concluder.is_normal())
    impression = layout.enumerated(concluder.statements(), author.numbered)
    if concluder.is_normal() and _allows_stock(reading, findings) and speaker.chance(author.template):
        said = _stock(speaker, findings)
    else:
        topics = Finder(speaker, author, findings, reading).topics()
        said = layout.findings(topics, author)
    table = layout.table(author, findings, reading)
    found = [table, said] if author.table_first else [said, table]
    return Sections(indication, technique, comparison, "\n".join(part for part in found if part), impression)


def _speaker(rng: np.random.Generator, findings: Findings, drawn: Plan) -> Speaker:
    author = drawn.author
    words = authors.values(author, drawn.reading) | grade_values(drawn.reading)
    words |= {
        "age": str(findings.age),
        "sex_word": "male" if findings.sex == "M" else "female",
        "sex_word_cap": "Male" if findings.sex == "M" else "Female",
        "sex_letter": findings.sex,
    }
    raised = drawn.reading.raised.get("t1")
    if raised:
        words["t1_said"] = words["t1" if len(raised) >= WIDESPREAD else "t1_max"]
    if findings.prior_date:
        words["prior"] = authors.date(author, findings.prior_date)
    if findings.prior_lvef is not None:
        words["prior_lvef"] = authors.fraction(author, drawn.reading, findings.prior_lvef)
    return Speaker(rng, author.name, words)


def _indication(speaker: Speaker, findings: Findings, *, unremarkable: bool) -> str:
    """Of a heart in which nothing is seen, the referral must not tell that it is ill all the same."""
    leading = "normal" if unremarkable else findings.diseases[0][0]
    other = DISEASES[int(speaker.rng.integers(len(DISEASES)))]
    reason = speaker.say(f"reason.{leading if speaker.chance(_OWN_REFERRAL) else other}")
    ask = as_sentence(speaker.say("ask"))
    return as_sentence(speaker.say("indication", reason=reason, ask=f" {ask}" if ask else ""))


def _technique(speaker: Speaker, author: Author, findings: Findings) -> str:
    parts = []
    for kind in ("cine", "lge"):
        names = dict(zip(_PLANES, (speaker.say("plane.sax"), *author.planes), strict=True))
        planes = [name for plane, name in names.items() if f"{kind}_{plane}" in findings.acquired]
        if planes:
            parts.append(speaker.say(f"tech.{kind}", planes=layout.listed(planes)))
    parts += [speaker.say(f"tech.{name}") for name in ("t1", "t2") if f"{name}_map" in findings.acquired]
    given = any(name.startswith("lge_") for name in findings.acquired)
    contrast = speaker.say("contrast.given" if given else "contrast.not")
    sequences = ", ".join(parts) or "scouts only"
    capital = sequences[:1].upper() + sequences[1:]
    return as_sentence(speaker.say("technique", sequences=sequences, Sequences=capital, contrast=contrast))


def _comparison(speaker: Speaker, author: Author, findings: Findings) -> str:
    if findings.prior_date:
        with_lvef = findings.prior_lvef is not None and speaker.chance(0.5)
        return speaker.sentence("comparison.lvef" if with_lvef else "comparison.prior")
    return speaker.sentence("comparison.none") if speaker.chance(0.5 * author.negatives) else ""


def _allows_stock(reading: Reading, findings: Findings) -> bool:
    """Whether all that the stock texts speak of was acquired, and nothing else that they would leave out."""
    return {"rvef", "la"} <= set(reading.numbers) and not (findings.breathing or findings.rhythm != "sinus")


def _stock(speaker: Speaker, findings: Findings) -> str:
    text = as_sentence(
        speaker.say(
            "stock",
            Lv_function=as_sentence(speaker.say("lv_function.normal")).rstrip("."),
            Rv_normal=as_sentence(speaker.say("rv.normal")).rstrip("."),
            La_normal=as_sentence(speaker.say("la.normal")).rstrip("."),
        )
    )
    if any(name.startswith("lge_") for name in findings.acquired):
        text += " " + speaker.sentence("scar.none")
    maps = [name for name in ("t1", "t2") if f"{name}_map" in findings.acquired and name in speaker.values]
    return " ".join([text, *(speaker.sentence(f"{name}.normal") for name in maps)])
