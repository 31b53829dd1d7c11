"""Cases of behaviour tests from templates: placeholders filled from lists of words, and changes such as typos."""

import random
import re
from collections.abc import Callable, Mapping, Sequence

from sentiment.exceptions import require, suggest_name

# {film}; {film2}, another word of the same list; {film:a:capital}, with changes in this order.
PLACEHOLDER = re.compile(r"\{([a-z_]+)(\d*)((?::[a-z]+)*)\}")
ORIGINAL = "original"  # the placeholder of the original text
LONG_WORD = re.compile(r"[A-Za-z]{5,}")  # whose inner letters typos change
ATTEMPTS = 1000  # in a row, to draw a case that is new, before a template counts as exhausted

Words = Mapping[str, Sequence[str]]
Template = Mapping[str, str]


def change_letter(text: str, generator: random.Random, change: Callable[[str, str], str]) -> str:
    """The text with two adjacent inner letters of one of its longer words changed; itself without such a word."""
    found = [
        place
        for word in LONG_WORD.finditer(text)
        for place in range(word.start() + 1, word.end() - 2)
        if text[place] != text[place + 1]
    ]
    if not found:
        return text
    place = generator.choice(found)
    return text[:place] + change(text[place], text[place + 1]) + text[place + 2 :]


# What may stand after a colon in a placeholder.
CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "a": lambda text, _: f"{'an' if text[:1].lower() in 'aeiou' else 'a'} {text}",
    "capital": lambda text, _: text[:1].upper() + text[1:],
    "upper": lambda text, _: text.upper(),
    "lower": lambda text, _: text.lower(),
    "title": lambda text, _: " ".join(word[:1].upper() + word[1:] for word in text.split(" ")),
    "swap": lambda text, generator: change_letter(text, generator, lambda first, second: second + first),
    "drop": lambda text, generator: change_letter(text, generator, lambda _, second: second),
    "double": lambda text, generator: change_letter(text, generator, lambda first, second: first + first + second),
}


def check_placeholders(where: str, template: Template, words: Words) -> None:
    """Raises InputError for a stray brace, an unknown list of words or change, or a list that is too short."""
    drawn: dict[str, set[str]] = {}
    for field, text in template.items():
        known = [*words, *([ORIGINAL] if field == "text" and ORIGINAL in template else [])]
        rest = PLACEHOLDER.sub("", text)
        require("{" not in rest and "}" not in rest, f"{where}, {field!r}: a brace outside a placeholder like {{film}}")
        for name, number, changes in PLACEHOLDER.findall(text):
            hint = suggest_name(name, known) or f"; the lists are {', '.join(known)}"
            require(name in known, f"{where}, {field!r}: no list of words {name!r}{hint}")
            drawn.setdefault(name, set()).add(number)
            for change in filter(None, changes.split(":")):
                known_changes = f"one of {', '.join(CHANGES)}"
                require(change in CHANGES, f"{where}, {field!r}: unknown change {change!r}: {known_changes}")
    for name in drawn.keys() - {ORIGINAL}:
        size = len({*words[name]})
        problem = f"{where}: {len(drawn[name])} different words of {name!r}, whose list has {size}"
        require(len(drawn[name]) <= size, problem)


def fill_template(template: Template, words: Words, generator: random.Random) -> dict[str, str]:
    """The `text`, and the `original` if there is one, with the same words in both.

    >>> words = {"film": ["comedy"], "good": ["amazing"]}
    >>> fill_template({"text": "It is {good:a} {film}!"}, words, random.Random(1))
    {'text': 'It is an amazing comedy!'}
    """
    drawn: dict[str, str] = {}
    names: dict[str, set[str]] = {}
    filled: dict[str, str] = {}

    def fill(match: re.Match[str]) -> str:
        name, number, changes = match.groups()
        key = name + number
        if name == ORIGINAL and ORIGINAL in filled:
            value = filled[ORIGINAL]
        else:
            if key not in drawn:
                left = [word for word in words[name] if word not in names.setdefault(name, set())]
                drawn[key] = generator.choice(left)
                names[name].add(drawn[key])
            value = drawn[key]
        for change in filter(None, changes.split(":")):
            value = CHANGES[change](value, generator)
        return value

    for field in (ORIGINAL, "text"):
        if field in template:
            filled[field] = PLACEHOLDER.sub(fill, template[field])
    return filled


def generate_texts(
    templates: Sequence[Template], words: Words, count: int, generator: random.Random
) -> list[tuple[int, str, str | None]]:
    """Number of the template, text and original of up to `count` cases with different texts, the templates in turn.

    A text that equals its original is none. Templates that are exhausted leave their share to the others.
    """
    cases: list[tuple[int, str, str | None]] = []
    seen: set[str] = set()
    remaining = list(range(len(templates)))
    while remaining and len(cases) < count:
        number = remaining.pop(0)
        for _ in range(ATTEMPTS):
            filled = fill_template(templates[number], words, generator)
            if filled["text"] not in seen and filled["text"] != filled.get(ORIGINAL):
                seen.add(filled["text"])
                cases.append((number, filled["text"], filled.get(ORIGINAL)))
                remaining.append(number)
                break
    return cases
