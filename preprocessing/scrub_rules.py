"""What identifies a person in free text whoever it is: contacts, dates, numbers, signatures, header blocks.

Each rule is (pattern, what stands in its place), tried in this order. Every repeat is bounded or possessive, so that no
text makes a rule slow. The names and numbers of the study's own header are `scrub`'s part.
"""

import re

from preprocessing import sections
from preprocessing.scrub_cues import CUES, LATE
from preprocessing.scrub_words import DAY, DEGREE, LOUD, MONTH, NAME, ROAD, SIGNATURE, TITLE, TOWN, WEEKDAY, YEAR, ZIP

_HEADER_FIELD = (
    r"(?:(?:patient|pat\.?)(?:'s)?(?:[ \t]+(?:name|id|number|no\.?))?|(?:last|first|full|given"
    r"|family)[ \t]+name|name|surname"
    r"|forename|vorname|nachname|nom|prénom|mrn|(?:medical[ \t]+)?record(?:[ \t]+(?:number|no\.?))|dob|d\.o\.b\.?"
    r"|date[ \t]+of[ \t]+birth|birth[ \t]*date|geburtsdatum|geb\.?|accession(?:[ \t]+(?:number|no\.?))?"
    r"|account(?:[ \t]+(?:number|no\.?))?|(?:referring|ordering|requesting|attending|reporting"
    r"|reading|primary[ \t]+care)"
    r"(?:[ \t]+(?:physician|doctor|provider|consultant|clinician|radiologist|cardiologist))?"
    r"|referred[ \t]+by|ordered[ \t]+by"
    r"|consultant|radiologist|cardiologist|technologist|radiographer|operator|gp|cc|copies[ \t]+to|copy[ \t]+to"
    r"|(?:exam|study|report|visit|scan|admission|discharge)[ \t]+date"
    r"|date(?:[ \t]+of[ \t]+(?:exam|examination|study|service|report|scan|admission|discharge))?"
    r"|(?:time[ \t]+of[ \t]+report)|address|adresse|phone|telephone|mobile|tel|fax|pager|e-?mail|ssn"
    r"|nhs(?:[ \t]+(?:number|no\.?))?|hospital(?:[ \t]+(?:number|no\.?))?|institution|ward|dictated"
    r"|transcribed|signed|finali[sz]ed)"
)
# Written in one line, a report must not lose its sections to the field before them.
_REST_OF_FIELD = (
    rf"[^\n]*?(?=\n|\Z|(?<=\[name\])[.;][ \t]|{sections.CAPITAL_HEADER}|(?<=[.;])[ \t]+(?:Findings|Impression"
    rf"|Conclusion|Technique)[ \t]*:)"
)
_NO_VITAE = r"(?![ \t]*(?:an?[ \t]+)?\d{1,3}[ -]?(?:year|yr|y/?o\b|yo\b))"

_CLOCK = r"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?"
# What makes "3/12" a part of something counted or measured.
_NO_DATE = (
    r"(?![/\d]|\.\d|[ \t]*(?:AHA|LV|LGE|of|segments?|slices?|phases?|coronar|vessels?|mm|cm|ms|mL|ml"
    r"|%|points?|criteria))"
)
_SEEN = r"(?:dated?|since|seen|performed|acquired|scanned|signed|dictated|reported|done|imaged)(?:[ \t]+on)?"
_ID_NOUN = (
    r"(?:mrn|m\.r\.n\.|medical[ \t]+record|accession|acc(?=[ \t.]*(?:[#:]|no\b|num))|account|encounter|ssn|nhs"
    r"|insurance|policy|serial|pacemaker[ \t]+serial)"
)
_ID_WEAK = (
    r"(?:patient|pat\.|pt\.?|hosp\.?|hospital|case|study|exam|order|visit|chart|record|request|room"
    r"|bed|sample|specimen|device|policy)"
)
_NUMBER = r"(?:numbers?(?:[ \t]+of[ \t]+the[ \t]+[\w-]{2,15})?|no\b\.?|nr\b\.?|id\b|#)"
_ID = r"(?=[A-Za-z-]{0,10}\d)[A-Za-z\d][\w/-]{2,30}"
_OLD = r"(?:9\d|1[0-2]\d)"
_OLD_WORDS = (
    r"(?:ninety(?:[ -](?:one|two|three|four|five|six|seven|eight|nine))?|(?:one|a)[ -]hundred"
    r"(?:[ -](?:and[ -])?\w{3,9})?)"
)

_SOURCES: tuple[tuple[str, str], ...] = (
    # header blocks and signatures
    (rf"(?m)^[ \t]*(?i:{_HEADER_FIELD})[ \t]*:{_NO_VITAE}{_REST_OF_FIELD}", ""),
    (
        rf"(?i)\b(?:patient(?:'s)?[ \t]+name|name[ \t]+of[ \t]+patient|referring[ \t]+(?:physician"
        rf"|doctor))[ \t]*[:#][ \t]*"
        rf"(?-i:(?:{TITLE})?{LOUD})",
        "[name]",
    ),
    (r"(?im)^[ \t]*/es/[^\n]{0,80}", "[name]"),
    (r"(?i)/es/[ \t]*[^\n.,;]{0,60}", "[name]"),
    (
        # after these words a name follows in whatever case
        rf"\b(?i:(?:electronically[ \t]+)?(?:signed|dictated|transcribed|authenticated|typed)"
        rf"(?:[ \t]+electronically)?"
        rf"[ \t]+by)\b[ \t]*:?[ \t]*(?:{TITLE})?{SIGNATURE}(?:(?:,?[ \t]+|/)(?!(?i:on|at|and|the|for"
        rf"|with)\b){SIGNATURE}){{0,3}}"
        rf"(?:,?[ \t]*{DEGREE}){{0,3}}",
        "[name]",
    ),
    (
        rf"\b(?i:(?:electronically[ \t]+)?(?:verified|approved|reported|interpreted|read|reviewed"
        rf"|confirmed|finali[sz]ed"
        rf"|performed|requested|referred|ordered|supervised|cosigned|co-signed)"
        rf"(?:[ \t]+electronically)?[ \t]+by)\b[ \t]*:?[ \t]*"
        rf"(?:{TITLE})?{LOUD}(?:[ \t]+and[ \t]+(?:{TITLE})?{NAME})?(?:,?[ \t]*{DEGREE}){{0,3}}",
        "[name]",
    ),
    (
        rf"\b((?i:discussed|communicated|relayed|conveyed|reported|phoned|telephoned|given|handed|faxed)[ \t]+"
        rf"(?:[\w-]{{1,15}}[ \t]+){{0,2}}?(?:with|to))[ \t]+(?:{TITLE})?(?!(?:Cardiology|Radiology"
        rf"|Surgery|Oncology|Medicine|Emergency|Paediatrics|Pediatrics|Neurology)\b){NAME}",
        r"\1 [name]",
    ),
    (rf"(?i:kind[ \t]+regards|best[ \t]+regards|yours[ \t]+(?:sincerely|faithfully)),?\s{{0,3}}{NAME}", "[name]"),
    (r"\b(?i:(?:cc|copies?[ \t]+to|attn|attention|c/o))\b[ \t]*:[^\n]{0,120}", "[name]"),
    (
        rf"\b((?i:his|her|their|the[ \t]+patient['’]s)[ \t]+(?i:wife|husband|son|daughter|mother|father"
        rf"|brother|sister|partner"
        rf"|spouse|carer|friend)),?[ \t]+{NAME}",
        r"\1 [name]",
    ),
    (rf"\b{TITLE}{NAME}(?:,?[ \t]*{DEGREE}){{0,3}}", "[name]"),
    (rf"\b(?:{NAME})(?:,[ \t]*|[ \t]+){DEGREE}(?:,?[ \t]*{DEGREE}){{0,3}}", "[name]"),
    # contacts
    (r"(?i)\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}", "[contact]"),
    (r"(?i)\b(?:https?|ftp|file)://\S{1,500}|\bwww\.\S{1,500}", "[contact]"),
    (
        r"(?i)\b(?:[a-z\d-]{1,63}\.){1,4}(?:org|com|net|edu|gov|de|fr|nl|ch|at|it|es|uk|ca|au)\b(?:/\S{0,300})?",
        "[contact]",
    ),
    (r"\b(?:[a-z][a-z\d-]{1,62}\.){2,5}[a-z]{2,20}\b(?:/\S{0,300})?", "[contact]"),
    (r"\b\d{1,3}(?:\.\d{1,3}){3}\b(?!\.\d)", "[id]"),
    (r"\b(?:\d{1,40}\.){4,20}\d{1,40}\b", "[id]"),
    (r"(?<![\d.])\+\d{1,3}[ ()./-]{0,3}(?:\d[ ()./-]{0,2}){6,13}\d\b", "[contact]"),
    (r"(?<![\d.])(?:\+\d{1,3}[-. ]?)?\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}(?!\d)", "[contact]"),
    (r"(?<![\d.])\(?0\d{2,4}\)?[ /-]\d{3,4}[ -]?\d{3,6}\b", "[contact]"),
    (
        r"(?i)\b(?:tel|phone|telephone|fax|pager|bleep|beeper|mobile|cell|ext|extension"
        r"|call)\b\.?[ \t]*(?:number|no\.?|at|on|#)?"
        r"[ \t]*:?[ \t]*\(?\+?\d(?:[ ().-]?\d){2,14}\b",
        "[contact]",
    ),
    (r"\b\d{3}-\d\d-\d{4}\b", "[id]"),
    # times and dates
    (r"\b(?:19|20)\d\d-\d\d-\d\d[T ]\d\d:?\d\d(?::?\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?", "[date]"),
    (rf"(?i)\b{_CLOCK}[ \t]?(?:[ap]\.?m\b\.?|h(?:rs|ours)?\b|uhr\b)", "[time]"),
    (r"\b(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?\b(?![:\d])", "[time]"),
    (r"(?i)\b(?:[01]?\d|2[0-3])\.[0-5]\d[ \t]?[ap]\.?m\b\.?", "[time]"),
    (r"(?i)\b(?:at[ \t]+)(?:\d:[0-5]\d|(?:[01]\d|2[0-3])[0-5]\d[ \t]?(?:h|hrs|hours))\b", "[time]"),
    (r"\b(?:19|20)\d\d([-/.])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])\b", "[date]"),
    (r"\b(?:0?[1-9]|[12]\d|3[01])([-/.])(?:0?[1-9]|[12]\d|3[01])\1(?:19|20)?\d\d\b", "[date]"),
    (r"\b(?:19|20)\d\d[-/](?:0[1-9]|1[0-2])\b(?![-/\d])", "[date]"),
    (r"(?<![\d/.])(?:0?[1-9]|1[0-2])[/.](?:19|20)\d\d\b", "[date]"),
    (rf"(?i)\b{WEEKDAY}?(?:{DAY}[ \t-]*(?:of[ \t]+)?)?{MONTH}[ \t,-]*(?:{DAY},?[ \t]+)?{YEAR}(?!\d)", "[date]"),
    # Without a whole year only as months are written: "segment 2 may be" is no date.
    (rf"\b{WEEKDAY}?{DAY}(?:[ -](?:of[ ])?|(?<=[.])[ ]?){MONTH}(?:-\d\d\b)?", "[date]"),
    (rf"\b{WEEKDAY}?{MONTH}[ \t]+{DAY}\b(?![ \t]*(?:to|-)?[ \t]*\d*[ \t]*(?:mm|cm|ms|mL|%))", "[date]"),
    (rf"(?i)(?<=\b)({_SEEN})[ \t]+(?:0?[1-9]|[12]\d|3[01])[/.](?:0?[1-9]|[12]\d|3[01])\b{_NO_DATE}", r"\1 [date]"),
    (rf"(?i)\b(MRI|CMR|CT|echo|study|exam|since|from|in)[ \t]+(?:0[1-9]|1[0-2])/\d\d\b{_NO_DATE}", r"\1 [date]"),
    # addresses
    (rf"\b\d{{1,5}}[A-Za-z]?[ \t]+(?:[A-Z][\w.'’-]{{1,30}}[ \t]+){{1,3}}{ROAD}{TOWN}{ZIP}", "[address]"),
    (r"(?i)\bP\.?[ \t]?O\.?[ \t]?Box[ \t]+\d{1,7}", "[address]"),
    (
        r"\b[A-ZÄÖÜ][\wäöüß-]{0,30}(?:stra(?:ß|ss)e|str\.|[Ww]eg|[Pp]latz|allee|gasse)[ \t]+\d{1,4}[ \t]?[a-z]?\b"
        r"(?:,?[ \t]+(?:D-)?\d{5}[ \t]+[A-ZÄÖÜ][\wäöüß-]{1,30})?",
        "[address]",
    ),
    (
        r"\b\d{1,4}(?:[ \t]?(?:bis|ter))?,?[ \t]+(?:rue|avenue|boulevard|place|chemin|allée|impasse|quai)\b"
        r"(?:[ \t]+[\w'’-]{1,30}){1,5}(?:,[ \t]*\d{5}[ \t]+[A-Z][\w-]{1,30})?",
        "[address]",
    ),
    (r"\b[A-Z][\w.'’-]{1,30}(?:[ \t]+[A-Z][\w.'’-]{1,30}){0,2},[ \t]*[A-Z]{2}[ \t]+\d{5}(?:-\d{4})?\b", "[address]"),
    (r"\b[A-Z]{1,2}\d[A-Z\d]?[ \t]\d[ABD-HJLNP-UW-Z]{2}\b", "[address]"),
    # numbers that stand for somebody
    (
        rf"(?i)\b{_ID_NOUN}\b\.?[ \t]*(?:{_NUMBER}[ \t]*)?[:#.]?[ \t]*(?:is[ \t]+)?\d{{3}}[ -]\d{{3}}[ -]\d{{3,4}}\b",
        "[id]",
    ),
    (rf"(?i)\b{_ID_NOUN}\b\.?[ \t]*(?:{_NUMBER}[ \t]*)?[:#.]?[ \t]*(?:is[ \t]+)?{_ID}", "[id]"),
    (rf"(?i)\b{_ID_WEAK}[ \t]*{_NUMBER}[ \t]*[:#.]?[ \t]*(?:is[ \t]+)?{_ID}", "[id]"),
    (r"\bID[ \t]*[:#]?[ \t]*(?=[\w-]{0,12}\d{3})[\w/-]{3,30}", "[id]"),
    (r"(?<![\d.])\d{3} \d{3} \d{4}(?!\d)", "[id]"),
    (r"\b\d{4,12}-\d{5,12}\b|\b\d{5,12}-\d{4}\b", "[id]"),
    (r"\b(?=(?:\d-?){7})\d{1,6}(?:-\d{1,6}){2,6}\b", "[id]"),
    (r"\b[A-Z]{1,5}-?\d{2,4}-\d{3,12}\b|\b[A-Z]{2,4}-\d{4,12}(?:-[A-Z\d]{1,4})?\b", "[id]"),
    (r"\b[A-Za-z]{0,5}-?\d{6,40}[A-Za-z]{0,3}\b", "[id]"),
    # ages that few people reach
    (rf"(?i)\b(?:{_OLD}|{_OLD_WORDS})(?=[ -]+(?:years?|yrs?|y/?o\b|y\.o\.|jahre|jährig|ans\b))", "over 89"),
    (rf"(?i)\b{_OLD}(?=(?:years?|yrs?|y/?o|jahre)\b)", "over 89 "),
    (rf"(?i)\b(aged?|age[ \t]+of|age[ \t]+is)([ \t]*:?[ \t]*){_OLD}\b(?![.\d]|[ \t]*(?:mm|cm|ms|%))", r"\1\2over 89"),
    (rf"\b{_OLD}(?=[ \t]?[MF]\b(?![ \t]*/))", "over 89 "),
    (r"(?i)\bin (his|her|their) (?:90s|nineties)\b|\b(?:nona|cente)narian\b", "over 89"),
)

RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), by) for pattern, by in (*CUES, *_SOURCES, *LATE)
)
