"""Languages by their ISO 639 codes."""

from __future__ import annotations

from iso639 import Language, LanguageNotFoundError

#: What definitions, manifests and command lines name languages by.
CODE = "an ISO 639-1 code such as de, or an ISO 639-3 code such as yue where a language has no shorter one"


def fault_of(code: str) -> str:
    """Why a text is not the code of a language here; empty if it is.

    >>> fault_of("de"), fault_of("yue")
    ('', '')
    >>> fault_of("deu")
    'German is written de'
    """
    try:
        found = Language.from_part1(code) if len(code) == 2 else Language.from_part3(code)
    except LanguageNotFoundError:
        return "no ISO 639 code"
    return f"{found.name} is written {found.part1}" if found.part1 and found.part1 != code else ""


def code_of(name: str) -> str:
    """The code of a language by its English name; empty where there is none of that name.

    >>> code_of("german"), code_of("Yue Chinese"), code_of("corpus")
    ('de', 'yue', '')
    """
    try:
        found = Language.from_name(name.title())
    except LanguageNotFoundError:
        return ""
    return str(found.part1 or found.part3)


def name_of(code: str) -> str:
    """The English name of a language; the code itself where it is none.

    >>> name_of("ur"), name_of("yue"), name_of("xx")
    ('Urdu', 'Yue Chinese', 'xx')
    """
    return str(Language.match(code).name) if code and not fault_of(code) else code
