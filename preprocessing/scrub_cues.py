"""Rules of the scrubber for words that announce somebody: a role, a label, a relation, a letter's opening and close.

Each rule is (pattern, what stands in its place); they run before those of `scrub_rules`, in this order.
"""

from preprocessing.scrub_words import DEGREE, LOUD, MONTH, NAME, NO_NAME, NO_TERM, ROAD, TITLE, WORD, ZIP

_PEOPLE = rf"(?:{TITLE})?{LOUD}(?:,?[ \t]*{DEGREE}){{0,3}}"
_QUIET_PEOPLE = rf"(?:{TITLE})?{NO_TERM}{NAME}(?:,?[ \t]*{DEGREE}){{0,3}}"
# Labels that only a person follows; a dash will do instead of the colon.
_PERSON_LABEL = (
    r"(?:(?:patient|pat|pt|client)[ \t.]*['’]?s?[ \t]+name|name[ \t]+of[ \t]+(?:the[ \t]+)?patient|(?:last|first"
    r"|full|given"
    r"|family|middle|maiden|birth|previous|former)[ \t]+name|surname|forenames?|vorname|nachname|geburtsname"
    r"|prénom|nom"
    r"|patient(?:in|e)?|re|(?:reporting|referring|ordering|requesting|attending|reading|supervising|performing"
    r"|admitting"
    r"|consulting|interpreting|primary[ \t]+care|responsible|treating|family)"
    r"(?:[ \t]+(?:physician|doctor|provider|consultant|clinician|radiologist|cardiologist|dr))?"
    r"|(?:1st|2nd|first|second|third|co-?)[ \t]*-?read(?:er)?|reader|reporter|referrer|request[eo]r|author"
    r"|signatory|resident"
    r"|fellow|staff|attending|registrar|trainee|consultant|radiologist|cardiologist|radiographer|technologist"
    r"|technician"
    r"|physicist|sonographer|operator|nurse|anaesthetist|anesthesiologist|surgeon|interpreter|chaperone"
    r"|transcriptionist"
    r"|typist|secretary|gp|pcp|next[ \t]+of[ \t]+kin|contact[ \t]+person|nok|emergency[ \t]+contact|guardian"
    r"|carer|spouse|alias|a\.?k\.?a\.?"
    r"|(?:zu|über|ueber|uber)weiser(?:in)?|hausarzt|untersucher(?:in)?|befunder(?:in)?|arzt|ärztin|oberarzt|médecin"
    r"|prescripteur|opérateur|(?:electronically[ \t]+|digitally[ \t]+)?(?:signed|validated|verified"
    r"|authori[sz]ed|approved"
    r"|dictated|transcribed|reviewed|reported|typed|checked|entered|finali[sz]ed|requested|referred|supervised"
    r"|attested))"
)
_DONE = (
    r"(?:validated|authori[sz]ed|attested|checked|entered|countersigned|released|scanned|imaged"
    r"|cannulated|consented|assisted|accompanied|seen|examined|cared[ \t]+for|operated[ \t]+on|acquired"
    r"|administered|prepared|written|edited|corrected|amended|completed|implanted|escorted|chaperoned|monitored"
    r"|witnessed)"
)
_ROLE = (
    r"(?:nurse(?:[ \t]+(?:practitioner|specialist|consultant|manager))?|sister|matron|(?:on-call[ \t]+)?registrar"
    r"|house[ \t]+officer|SHO|technologist|technician|radiographer|sonographer|physicist|interpreter"
    r"|anaesthetist|surgeon"
    r"|fellow|resident|physician[ \t]+assistant|secretary|coordinator|chaperone|midwife|physiologist|schwester|pfleger"
    r"|colleagues?|cardiologist|radiologist|consultant|GP)"
)
_RELATIVE = (
    r"(?:wife|husband|son|daughter|mother|father|brother|sister|partner|spouse|carer|friend|aunt|uncle|cousin"
    r"|nephew|niece"
    r"|grandson|granddaughter|grandmother|grandfather|neighbou?r|fiancée?|twin|twin[ \t]+(?:brother|sister)"
    r"|Ehefrau|Ehemann"
    r"|Tochter|Sohn)"
)
_CLOSING = (
    r"(?:(?:with[ \t]+)?(?:kind(?:est)?|best|warm(?:est)?|many)[ \t]+(?:regards|wishes|thanks)|regards|respectfully"
    r"|yours(?:[ \t]+(?:sincerely|faithfully|truly))?|sincerely(?:[ \t]+yours)?|best|mit[ \t]+freundlichen"
    r"[ \t]+grüßen|mfg"
    r"|cordialement|bien[ \t]+à[ \t]+vous)"
)

# A value in one or several groups: 485 777 3456, AB 40912, XGH 882 17 4401, QQ 12 34 56 C.
_GROUP_END = r"(?![ \t-]{0,2}(?:years?|yrs?|y/?o|mm|cm|ms|m[lL]|kg|mg|bpm|%|male|female)\b|[.,]\d|%)"
_VALUE = (
    r"(?=[^\s\d]{0,8}[ ]?[^\s\d]{0,4}\d)(?:[A-Za-z]{1,5}[ -]{1,1})?(?=[A-Za-z]{0,6}[-/_]?\d"
    r"|[A-Za-z]{1,6}[-/_][A-Za-z]{1,6}[-/_]?\d)"
    rf"[A-Za-z\d][\w/-]{{1,30}}+(?:[ ](?:\d[\w-]{{1,14}}+{_GROUP_END}|\d\b(?![.,/]\d|[ -]?[a-z%(])"
    rf"|[A-Z]\b(?![ .]))){{0,6}}"
)
_ANY_NUMBER = r"(?:numbers?|no\b\.?|nos\b\.?|nr\b\.?|num\b\.?|id\b|code|#)"
_STRONG = (
    r"(?:mrn|m\.r\.n\.|urn|uhid|nhs|chi|h\s?&\s?c|ssn|social[ \t]+security|national[ \t]+insurance|ni(?=[ \t]+n)"
    r"|medicare"
    r"|medicaid|(?:health[ \t]+|medical[ \t]+)?insurance|policy|member(?:ship)?|subscriber|group(?=[ \t]+n)"
    r"|(?:prior[ \t]+)?"
    r"authori[sz]ation|passport|driv(?:er['’]?s|ing)[ \t]+licen[cs]e|licen[cs]e|identity[ \t]+card|gmc|npi|dea"
    r"|nmc|hcpc|unit"
    r"(?=[ \t]+n)|(?:hospital|hosp\.?|clinic|patient|pat\.?|pt\.?|case|study|exam|order|visit|chart|record"
    r"|request|requisition"
    r"|sample|specimen|biopsy|device|account|encounter|episode|file|folder|referral|booking|invoice|claim|lot"
    r"|batch|model|ref"
    r"(?:erence)?|accession|acc|serial|report|registration|subject|participant|trial|research|donor|aufnahme"
    r"|fall|patienten"
    r"|versicherten|kranken\w{0,14})[ \t-]*(?=(?:numbers?|no\b|nr\b|num\b|id\b|code|#|:)|nummer))"
    r"(?:[ \t-]?nummer)?"
)
_CODE_NOUN = r"(?:case|specimen|biopsy|study|accession|acc|exam|order|patient|subject|report|file|ref|serial|lot)"
_INSTANT = r"(?:[01]?\d|2[0-3])"

_EVENT = (
    r"(?:admitted|discharged|hospitali[sz]ed|transferred|implanted|inserted|ablation|seen|scanned|performed"
    r"|underwent|done"
    r"|operated|repeated|reviewed|acquired|dated|on|from|between)"
)
_D = r"(?:0?[1-9]|[12]\d|3[01])"

CUES: tuple[tuple[str, str], ...] = (
    # letters
    (
        rf"(?m)^[ \t]*((?i:dear|hi|hello|liebe[r]?|cher|chère))[ \t]+(?!(?i:colleagues?|sir|madam|all"
        rf"|team)\b){_PEOPLE}",
        r"\1 [name]",
    ),
    (rf"(?m)((?i:\b{_CLOSING})[ \t]*[,.]?[ \t]*\n\s{{0,3}}){_PEOPLE}", r"\1[name]"),
    (rf"\b(I,[ \t]+(?i:the[ \t]+(?:attending|undersigned),?[ \t]+)?){_PEOPLE}(?=,)", r"\1[name]"),
    # a label and who it names
    (
        rf"(?i:(?<![\w/])({_PERSON_LABEL}))([ \t]*(?::|[ \t][-–=])[ \t]*){_PEOPLE}(?:[ \t]+(?:and|/)"
        rf"[ \t]+{_PEOPLE})?",
        r"\1\2[name]",
    ),
    (
        rf"\b((?i:(?:maiden|former|previous|birth|married)[ \t]+name[ \t]+(?:is|was|of)|(?:also|formerly|previously"
        rf"|otherwise|better)[ \t]+known[ \t]+as|a\.?k\.?a\.?|née|nee|geb\.|geborene|goes[ \t]+by|likes[ \t]+to"
        rf"[ \t]+be[ \t]+called"
        rf"|(?:reporting|referring|ordering|requesting|attending|interpreting|treating|supervising)"
        rf"[ \t]+(?:physician|doctor"
        rf"|provider|clinician|consultant|radiologist|cardiologist)(?:[ \t]+(?:is|was))?|(?:1st|2nd|first"
        rf"|second)[ \t]+read(?:er)?))"
        rf"[ \t]+{_PEOPLE}",
        r"\1 [name]",
    ),
    (
        r"\b((?i:transcriptionist|typist|typed[ \t]+by"
        r"|initials))([ \t]*:?[ \t]*)[A-Za-z]{2,4}\b(?![ \t]*:)",
        r"\1\2[name]",
    ),
    (rf"\b(CC|Cc|cc|Copy|Copies|copied)((?i:[ \t]+to)?[ \t]+){_QUIET_PEOPLE}", r"\1\2[name]"),
    (
        rf"\b((?i:{_DONE}[ \t]+by|under[ \t]+(?:the[ \t]+)?(?:supervision|care)[ \t]+of|in[ \t]+the"
        rf"[ \t]+presence[ \t]+of"
        rf"|on[ \t]+behalf[ \t]+of|patient[ \t]+of))[ \t]+{_QUIET_PEOPLE}(?:[ \t]*(?:,|and|&)"
        rf"[ \t]+{_QUIET_PEOPLE}){{0,3}}",
        r"\1 [name]",
    ),
    (rf"\b((?i:{_ROLE}))([ \t]*[(,]?[ \t]*){_QUIET_PEOPLE}", r"\1\2[name]"),
    (rf"\b((?i:{_RELATIVE}))([ \t]*[(,]?[ \t]*){_QUIET_PEOPLE}(?:[ \t]+and[ \t]+{_QUIET_PEOPLE})?", r"\1\2[name]"),
    (
        rf"\b((?i:thank[ \t]+you[ \t]+for[ \t]+(?:referring|sending|seeing)|regarding|concerning|I[ \t]+(?:saw"
        rf"|reviewed|met|examined"
        rf"|scanned|spoke[ \t]+(?:to|with))|informed|notified|contacted|paged|alerted|e-?mailed|spoke[ \t]+(?:to"
        rf"|with)|seen[ \t]+with))"
        rf"[ \t]+{_QUIET_PEOPLE}",
        r"\1 [name]",
    ),
    (
        rf"(?m)^[ \t]*{_QUIET_PEOPLE}[ \t]*\n(?=[ \t]*(?i:(?:clinical|consultant|specialist|senior|associate"
        rf"|locum)\b))",
        "[name]\n",
    ),
    (
        rf"\b(?:{TITLE}|(?:DR|PROF|MRS)\b\.?[ \t]+)(?:[A-Z]\b\.?[ \t]+)?{NO_NAME}[A-ZÀ-Þ][A-ZÀ-Þ'’-]{{2,30}}(?:"
        rf"[ \t]+{NO_NAME}[A-ZÀ-Þ'’-]{{3,30}}\b|[ \t]+{WORD}){{0,2}}",
        "[name]",
    ),
    (
        r"\b(?:dr|mrs)\b\.?[ \t]+(?!(?:to|and|the|for|in|on|of|has|had|was|will|is|not|who|at"
        r"|or)\b)[a-zà-ÿ]{3,20}\b",
        "[name]",
    ),
    (
        r"(?i)\b((?:referring|sending|home|treating|local|registered)[ \t]+(?:clinic|hospital|site|cent(?:re|er)"
        r"|practice|surgery"
        r"|institution|facility|trust)[ \t]*:[ \t]*)[^\n.;]{1,100}",
        r"\1[address]",
    ),
    (
        r"\b(?:(?!(?:The|This|Our|At|In|From|Local|Referring|Outside|Another|Teaching|District|Community|Day"
        r"|Private)\b)[A-Z][\w'’-]{1,30}+\.?[ \t]+){1,4}"
        r"(?:(?:General|University|Memorial|Regional|District|Royal|Community|Teaching|Children['’]?s)[ \t]+){0,3}"
        r"(?:Hospitals?|Infirmary|Klinikum|Klinik|Krankenhaus|Spital|Hospice|Medical[ \t]+(?:Cent(?:er|re)"
        r"|Practice|Group)|Family[ \t]+Practice|Health[ \t]+Cent(?:er|re)"
        r"|Nursing[ \t]+Home|NHS[ \t]+(?:Foundation[ \t]+)?Trust)\b",
        "[address]",
    ),
    (
        rf"\b((?i:(?:lives|living|resides|residing|resident|wohnt|wohnhaft|born)[ \t]+in))"
        rf"[ \t]+{WORD}(?:-\w{{1,30}}|[ \t]+{WORD}){{0,4}}",
        r"\1 [address]",
    ),
    # contacts
    (r"(?<![\d.])00[1-9]\d{1,2}[ ()./-]{0,3}(?:\d[ ()./-]{0,2}){6,12}\d\b", "[contact]"),
    (
        r"(?i)\b[\w.+-]{1,64}[ ]?[\[(](?:at|@)[\])][ ]?[\w-]{1,63}(?:[ ]?(?:\."
        r"|[\[(]?dot[\])]?)[ ]?[\w-]{1,63}){1,4}\b",
        "[contact]",
    ),
    (r"(?i)\b(at|on|call|ring|dial|phone|ext\.?)([ \t]+)x[ ]?\d{3,6}\b", r"\1\2[contact]"),
    (
        r"(?i)\b(bleep|pager?|beeper|ext(?:ension|n)?|dect|fax|tel|telefon|telephone|phone|mobile|handy|cell"
        r"|desk|voicemail)\b"
        r"(\.?(?:[ \t]+(?:holder|number|no\.?|at|on|is|was))?[ \t]*[:(]?[ \t]*)[#(+-]?\d(?:[ ()./-]{0,2}\d){2,14}\b",
        r"\1\2[contact]",
    ),
    (
        r"(?i)(?<![\d.])(?:\+?1[ .-])?\(?\d{3}\)?[-. ]{1,2}\d{3}[-. ]\d{4}[ \t]*,?[ \t]*(?:x|ext\b\.?"
        r"|extension)[ \t]*\d{1,6}\b",
        "[contact]",
    ),
    (r"(?<![\d.])1[.-]\d{3}[.-]\d{3}[.-]\d{4}\b", "[contact]"),
    (r"(?<![\d./])0\d(?:[ .]\d\d){4}\b", "[contact]"),
    (r"(?<![\d./])\(?0\d{1,4}\)?[ /-]{1,3}\d{3,4}[ -]\d{1,6}\b|(?<![\d./])0\d{2,4}[ /-]{1,3}\d{5,8}\b", "[contact]"),
    (
        r"(?i)\b(call|ring|dial|contact|text|at|on|unter)(:?[ \t]+)\d{3}[-.]\d{4}\b(?![ \t]*(?:ms|mm|m[lL]"
        r"|%))",
        r"\1\2[contact]",
    ),
    # addresses
    (
        r"(?im)\b((?:home|postal|mailing|street|patient)?[ \t]*address|anschrift|adresse|residence|wohnhaft"
        r"|wohnort)([ \t]*:[ \t]*|[ \t]+)"
        r"(?=[^\n;]{0,60}\d)(?:[^\n;.]|\.(?!\s)|(?<=\b\w{2})\.|(?<=\b\w{3})\.){5,160}",
        r"\1\2[address]",
    ),
    (
        rf"\b(?:(?:Flat|Apt|Apartment|Unit|Suite|Room"
        rf"|The)\b\.?[ \t]*[\w'’ ]{{1,20}},[ \t]*)?\d{{1,5}}[A-Za-z]?(?:-\d{{1,4}})?,?[ \t]+"
        rf"(?:[A-Z][\w.'’-]{{0,30}}[ \t]+){{1,4}}{ROAD}(?:,?[ \t]+(?:N|S|E|W|NE|NW|SE|SW)\b\.?)?(?:,?"
        rf"[ \t]+(?:Apt|Suite|Unit|Flat"
        rf"|Floor|\#)\.?[ \t]*\w{{1,6}})?(?:,[ \t]*[A-Z][a-z.'’-]{{1,30}}(?:[ \t-]+(?:on[ \t]"
        rf"|upon[ \t])?[A-Z][a-z.'’-]{{1,30}}){{0,3}})"
        rf"{{0,3}}(?:,?[ \t]*[A-Z]{{2}}(?=[ \t]+\d{{5}}))?(?:,?[ \t]+\d{{5}}(?:-\d{{4}})?)?{ZIP}",
        "[address]",
    ),
    (
        r"(?i:\bP\.?[ \t]?O\.?[ \t]?Box[ \t]+\d{1,7})(?:,[ \t]*[A-Z][a-z.'’-]{1,30}(?:"
        r"[ \t]+[A-Z][a-z.'’-]{1,30}){0,2},?[ \t]+"
        r"(?:[A-Z]{2}[ \t]+)?\d{5}(?:-\d{4})?)?",
        "[address]",
    ),
    (
        r"\b(?:Am|An[ \t]der|An[ \t]den|Auf[ \t]de[rmn]|Im|In[ \t]de[rn]|Unter[ \t]den|Zum|Zur"
        r"|Hinter[ \t]de[rmn]|Vor[ \t]de[rmn])"
        r"(?:[ \t]+[A-ZÄÖÜ][\wäöüß-]{1,30}){1,3}[ \t]+\d{1,4}[ \t]?[a-z]?\b(?:,?[ \t]+(?:D-)?\d{5}"
        r"[ \t]+[A-ZÄÖÜ][\wäöüß-]{1,30})?",
        "[address]",
    ),
    (
        r"\b[A-ZÄÖÜ][\wäöüß-]{0,30}(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|ring|ufer|damm)"
        r"[ \t]+\d{1,4}[ \t]?[a-z]?,[ \t]+"
        r"(?:[AD]-|CH-)?\d{4,5}[ \t]+[A-ZÄÖÜ][\wäöüß-]{1,30}",
        "[address]",
    ),
    (r"\b(?:D|A|CH|F)-\d{4,5}[ \t]+[A-ZÄÖÜ][\wäöüß-]{1,30}", "[address]"),
    (
        r"(?i)\b(post(?:al)?[ \t]?code|zip(?:[ \t]?code)?|plz)([ \t]*:?[ \t]*)[A-Z\d]{2,5}(?:[ \t-]\d[A-Z]{2}\b"
        r"|-\d{4}\b)?",
        r"\1\2[address]",
    ),
    # numbers that stand for somebody
    (
        rf"(?i:\b({_STRONG}))([ \t]*(?i:{_ANY_NUMBER})?[ \t]*(?:[:#.]|[-–](?=[ \t]))?[ \t]*(?:is"
        rf"[ \t]+)?){_VALUE}",
        r"\1\2[id]",
    ),
    (rf"(?i:(?<![\w/])(S/N|SN|serial(?:[ \t]+(?i:{_ANY_NUMBER}))?))([ \t]*[:#.]?[ \t]*){_VALUE}", r"\1\2[id]"),
    (rf"\b((?i:{_CODE_NOUN}))[ \t]+(?=[\w-]*\d)\w{{1,6}}(?:-\w{{1,8}}){{2,4}}\b", r"\1 [id]"),
    (
        r"\b[A-Z]{2,6}_\d{2,8}(?:_\w{1,12}){0,3}\b|\b[A-Z]{2,4}/(?:19|20)\d\d/\d{2,8}\b"
        r"|\b\d\d-[A-Z]{1,2}-\d{3,6}\b",
        "[id]",
    ),
    (r"\b[A-CEGHJ-PR-TW-Z]{2}[ ]?\d\d[ ]?\d\d[ ]?\d\d[ ]?[A-D]\b", "[id]"),
    # dates
    (
        rf"(?i)\b({_EVENT}[ \t]+(?:on[ \t]+)?){_D}[/.]{_D}(?:[/.]\d{{2,4}})?([ \t]?(?:-|–|to"
        rf"|and)[ \t]?){_D}[/.]{_D}(?:[/.]\d{{2,4}})?"
        r"(?![\d/]|[ \t]*(?:segments?|slices?|mm|cm|ms|%|of)\b)",
        r"\1[date]\2[date]",
    ),
    (r"\b(?:0?[1-9]|[12]\d|3[01])\.[ ](?:0?[1-9]|1[0-2])\.[ ]?(?:19|20)\d\d\b", "[date]"),
    (rf"\b{_D}(?:st|nd|rd|th|\.)?[ ]?[/–-][ ]?{_D}(?:st|nd|rd|th|\.)?[ \t]+{MONTH}", "[date]"),
    (rf"\b(?:(?i:last|on|next)[ \t]+)?(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day,?[ \t]+{_D}[/.]{_D}\b", "[date]"),
    (rf"(?i)\b1er[ \t]+{MONTH}(?:[ \t]+\d{{4}})?", "[date]"),
    (
        r"\b(?:Christmas(?:[ \t]+(?:Eve|Day))?|New[ \t]+Year['’]?s?(?:[ \t]+(?:Eve|Day))?|Easter(?:"
        r"[ \t]+(?:Sunday|Monday))?|Good[ \t]+Friday"
        r"|Thanksgiving|Boxing[ \t]+Day|Halloween|Valentine['’]?s[ \t]+Day|Independence[ \t]+Day|Labou?r"
        r"[ \t]+Day|Memorial[ \t]+Day"
        r"|Heiligabend|Silvester|Weihnachten|Ostern|Pfingsten|Bastille[ \t]+Day|Whit(?:sun|[ \t]+Monday)"
        r"|Mother['’]?s[ \t]+Day)\b",
        "[date]",
    ),
    (
        rf"\b(?:Mon|Tue|Tues|Wed|Thu|Thur|Thurs|Fri|Sat|Sun|Mo|Di|Mi|Do|Fr|Sa|So)\b[.,]{{0,2}}[ \t]+(?={_D}(?:st|nd"
        rf"|rd|th|\.)?[ \t/.-]+(?:{MONTH}|\d))",
        "",
    ),
    (r"(?i)\b(?:[01]\d|2[0-3])[0-5]\d[ \t]?(?:h|hrs|hours|uhr)\b", "[time]"),
    (
        rf"(?i)\b{_INSTANT}h[0-5]\d\b|\b{_INSTANT}[ \t]?o['’]clock(?=[ \t]+(?:in[ \t]+the[ \t]+(?:morning|afternoon"
        rf"|evening)|this|yesterday))",
        "[time]",
    ),
    (r"(?i)(?<![:.\d])\b(?:1[0-2]|[1-9])[ \t]?[ap]\.?m\b\.?", "[time]"),
    # ages that few people reach
    (r"(?i)\b(?:9\d|1[0-2]\d)[ \t]?Y\b", "over 89"),
    (
        r"(?i)\b((?:he|she|patient|who|mother|father)[ \t]+(?:is|was|turned|turns)[ \t]+(?:now[ \t]+|only"
        r"[ \t]+)?)(?:9\d|1[0-2]\d)"
        r"(?=[.,;]?(?:\s|\Z))(?![.,;]?[ \t]+(?:kg|cm|mm|ms|bpm|%|beats|pounds|lbs?|percent)\b)",
        r"\1over 89",
    ),
)

# After the dates of `scrub_rules`: these would take half of what those take whole.
LATE: tuple[tuple[str, str], ...] = (
    (
        rf"\b((?i:in|since|from|until|till|last|this|next|early|late|mid|by|during|before|after|end[ \t]+of|of"
        rf"|and|to|for|im|seit|en"
        rf"|depuis|repeated?[ \t]+in)[ \t-]+)(?-i:{MONTH})(?:(?<!\.)|(?!\s*(?:[A-Z]|\Z)))(?![-\w]|[ \t]+\d|"
        rf"[ \t]+(?:be|have|not|also|represent|reflect|indicate|fractures?)\b)",
        r"\1[date]",
    ),
    (
        r"(?i)\b(on(?:[ \t]+the)?|through(?:[ \t]+the)?|the|until|since|from|by|am)([ \t]+)(?:[12]?\d"
        r"|3[01])(?:st|nd|rd|th)\b(?=[ \t]*(?:[.,;)\n]|$"
        r"|(?:with|for|after|before|at|in|by|when|due|because|was|were|he|she|they|showed|revealed|to)\b|of"
        r"[ \t]+(?:this|last|the)"
        r"[ \t]+month))",
        r"\1\2[date]",
    ),
    (
        r"(?i)\b(of|until|before|after|dated?|till)[ \t]+(?:0[1-9]|1[0-2])/\d\d\b(?![/\d]|\.\d"
        r"|[ \t]*(?:[a-z]{0,3}segm|slices?|mm|cm|ms|%|of))",
        r"\1 [date]",
    ),
    (
        rf"(?i)\b(on)[ \t]+{_D}/{_D}\b(?![/\d]|\.\d|[ \t]*(?:AHA|LV|LGE|of|[a-z]*[ ]?segments?|short|long"
        rf"|consecutive|slices?|phases?|occasions?|scans?|vessels?"
        r"|mm|cm|ms|m[lL]|%|points?|criteria|images?|views?))",
        r"\1 [date]",
    ),
    (
        rf"\b((?i:by[ \t]+me,|by|from|with|per|opinion[ \t]+(?:of|from)|signed|verified|validated|dictated))"
        rf"[ \t]+{NO_TERM}(?:[A-Z]\.[ ]?){{1,2}}{WORD}",
        r"\1 [name]",
    ),
    (
        rf"\b((?i:by[ \t]+me,|by|per|opinion[ \t]+(?:of|from)))[ \t]+{NO_TERM}{WORD}[ \t]+{NO_TERM}{WORD}(?!"
        rf"[ \t]+(?i:criteria|method|technique|score))",
        r"\1 [name]",
    ),
    (r"(?i)\b(am|vom|bis|seit|zum)([ \t]+)(?:0?[1-9]|[12]\d|3[01])\.(?:0?[1-9]|1[0-2])\.(?!\d)", r"\1\2[date]"),
    (r"(?i)\b(at[ \t]+)0\d[0-5]\d\b(?![ \t]*(?:ms|mm|m[lL]|%)|[.,]\d)", r"\1[time]"),
    (r"(?i)\bin[ \t]+(his|her|their)[ \t]+(?:early|mid|late)[ \t-]+(?:90['’]?s|nineties)\b", "over 89"),
)
