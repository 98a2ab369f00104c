"""How names, months and streets are written: the pieces that the scrubber's rules are made of."""

from preprocessing import sections

# Labels, roles, makers and methods that stand where names stand.
NO_NAME = (
    r"(?!(?i:MRI?|CMR|CT|echo\w*|TTE|TOE|TEE|ECG|PET|cine|LGE|doppler|ultrasound|angiograph\w*|Siemens|Philips"
    r"|GE|Canon"
    r"|Medtronic|DOB|MRN|sex|age|gender|date|first|last|given|family|study|exam\w*|indications?|history|findings"
    r"|impression"
    r"|conclusion|technique|comparison|contrast|report|name|forename|surname|accession|ward|hospital|clinic|consultant"
    r"|radiologist|cardiologist|Dr|Prof|Professor|Mr|Mrs|Ms|Miss|Frau|Herr|fellow|resident|staff|attending"
    r"|registrar|the|this|no|not|none|normal|withheld|unknown"
    r"|n/a)\b)"
)
# A name as it is written: Jane, O'Neil, García-López, J., de la Cruz; never a word in capitals alone such as LVEF.
WORD = (
    rf"{NO_NAME}(?>[A-ZÀ-ÖØ-Þ](?:['’][A-ZÀ-ÖØ-Þ])?[a-zà-öø-ÿ]{{1,30}}+"
    rf"(?:(?!['’]s\b)['’-][A-Za-zÀ-ÿ]\w{{0,30}}+)?)"
)
INITIAL = r"(?:[A-ZÀ-Þ]\.(?:-?[A-ZÀ-Þ]\.){0,2}|[A-ZÀ-Þ]\b(?![.'’\w-]))"
PARTICLE = (
    r"(?:(?:al|el|as|ad)-(?=[A-Z])|(?:(?:van|von|der|den|de|la|del|di|da|dos|du|al|el|bin|ten|ter|zu|af"
    r"|av|ibn)[ \t]+){1,3})"
)
SECTION = rf"(?!{sections.CAPITAL_HEADER})"
PIECE = rf"(?:{PARTICLE})?(?:{INITIAL}|{WORD})(?![ \t]*:)"
NAME = rf"{PIECE}(?:,?[ \t]+{PIECE}){{0,3}}"
# In capitals only where the words before say that a name follows.
SHOUT = rf"{SECTION}{NO_NAME}(?:{INITIAL}|(?>[A-ZÀ-Þ][\w'’-]{{0,30}}+))(?![ \t]*:)"
LOUD = rf"{SHOUT}(?:,?[ \t]+(?:{PARTICLE})?{SHOUT}){{0,3}}"
SIGNATURE = rf"{SECTION}(?>[^\W\d][\w'’-]{{0,30}}+)(?![ \t]*:)\.?"
TITLE = (
    r"(?:(?:Dr|Prof|Professor|Mr|Mrs|Ms|Miss|Mme|Mlle|Herr|Frau|Sister|Nurse)\b\.?[ \t]+(?:(?:Dr|med|em|rer|nat|habil"
    r"|Prof)\b\.?[ \t]+){0,3})"
)
DEGREE = r"(?:M\.?D|D\.O|FRCR|FRCP|FRACP|FACC|FESC|FSCMR|MBBS|MBChB|MRCP|Ph\.?D|R\.?N|PA-C)\b\.?"

MONTHS = (
    "January February March April May June July August September October November December Jan Feb Mar Apr Jun Jul Au"
    "g"
    " Sep Sept Oct Nov Dec Januar Februar März Mai Juni Juli Oktober Dezember janvier février mars avril mai juin"
    " juillet août septembre octobre novembre décembre"
).split()
MONTH = (
    rf"(?:{'|'.join(sorted({*MONTHS, *(m.upper() for m in MONTHS)}, key=len, reverse=True))})(?![A-Za-zÀ-ÿ])\." rf"?"
)
WEEKDAY = r"(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day,?[ \t]+(?:the[ \t]+)?)"
DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th|\.)?"
YEAR = r"(?:(?:19|20)\d\d|['’]\d\d)"
ROAD = (
    r"(?:Street|St\b\.?|Avenue|Ave\b\.?|Road|Rd\b\.?|Boulevard|Blvd\b\.?|Lane|Drive|Court|Place"
    r"|Square|Terrace|Crescent"
    r"|Parkway|Pkwy\b\.?|Highway|Hwy\b\.?|Way|Close|Gardens|Grove|Row)"
)
TOWN = (
    r"(?:,?[ \t]+(?:N|S|E|W|NE|NW|SE|SW)\b\.?)?(?:,?[ \t]+(?:Apt|Suite|Unit|Flat"
    r"|Floor)\.?[ \t]*\w{1,6})?(?:,[ \t]*[A-Z][\w.'’-]{1,30}(?:[ \t]+[A-Z][\w.'’-]{1,30}){0,2}){0,2}"
)
ZIP = (
    r"(?:,?[ \t]+[A-Z]{2}\b)?(?:,?"
    r"[ \t]+\d{5}(?:-\d{4})?)?(?:,?[ \t]*[A-Z]{1,2}\d[A-Z\d]?[ \t]\d[ABD-HJLNP-UW-Z]{2}\b)?"
)
# Diseases, operations and modalities that follow words such as "brother" or "by" and name nobody there.
NO_TERM = (
    r"(?!(?i:fallot|fontan|fabry|ross|mustard|senning|marfan|brugada|duchenne|becker|danon|noonan|turner|ebstein"
    r"|simpson|bentall"
    r"|glenn|rastelli|takayasu|kawasaki|friedreich|MOLLI|SASHA|PSIR|STIR|SSFP|VENC|T1|T2|LV|RV|LA|RA|AHA|biplane"
    r"|phase|lake|modified|boston|swan|black|retrospective|prospective|parallel|visual"
    r"|adenosine|regadenoson|gadolinium|family|sudden|left|right|severe|mild|moderate)\b)"
)
