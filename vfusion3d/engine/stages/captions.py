"""Which captions describe a single object (paper, section 3.3), without a model."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa

from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.stages import caption_words as lexicon

_FRAMING = re.compile(
    r"^(?:(?:a|an|the)\s+)?(?:(?:zoomed[ -]out|wide[ -]angle|close[ -]up|closeup|macro|high[ -]\w+|product|"
    r"professional|dslr|3d|black and white|\w+ and white|beautiful|full[ -]body|studio|realistic|detailed|digital)\s+)*"
    r"(?:photo|photograph|picture|image|shot|render|rendering|scan|model|close[ -]up|closeup|view|portrait)\s+of\s+"
)
"""What says how something is shown, not what: "a zoomed out DSLR photo of"."""
_APART = re.compile(
    r"\b(?:alongside|side by side|between|among|amongst|surrounded by|together with|along with|"
    r"to the (?:left|right) of|behind an?|each other|touch(?:es)?|looking at an?|chas(?:es|ing)|facing an?|meets?|"
    r"attack(?:s|ing)|knock(?:s|ing) (?:over|down)|crash(?:es|ing) into|fighting|follow(?:s|ing) an?|"
    r"shares? \w+ with|accompanied by)\b"
)
"""What stands between two things."""
_BEFORE = re.compile(r"\b(?:in front of|on the side of|against|near)\b(.*)")
_BESIDE = re.compile(r"\b(?:next to|besides?)\b(.*)")
_ANOTHER = re.compile(r"\band (?:an?|the|another|two|three) (?:[\w-]+ ){1,4}?\w+ing\b")
"""A second subject with a verb: "and a woman eating"."""
_STOCK = re.compile(r"\bstock (?:photos?|photography|image|images|illustration|vector|footage)\b|\broyalty[ -]free\b")
_WEB = re.compile(r"https?:|www\.|\.com\b|@\w|#\w|[|?!]|\bvol\.|\$\d|\.{3}")
_AUTHOR = re.compile(r" by [A-Z]\w+ [A-Z]")
_NUMBER = re.compile(r"\d+")
_STARTERS = lexicon.DETERMINERS | lexicon.PREPOSITIONS
"""What may follow a verb, and what no verb follows."""
_WORD = re.compile(r"[^\W_][\w'’-]*")


class RuleCaptionFilter(Stage):
    """Whether a caption describes a single object, by rules on English words.

    The paper asks a language model (`LMCaptionFilter`); this asks none. It knows a thousand words and no grammar: it is
    for dropping in no time most of what is certainly a scene, a group or no object at all, and for use where no
    language model is at hand. The page "Prompts" of the documentation says how often it agrees with a person.

    A single object is one body that can be cut out and turned around: a thing, an animal, a person, with what it wears,
    holds or sits on, wherever it is.

    Columns: ``single_object``; ``caption_reason``, null for those, else one of `REASONS`; ``motion``, whether the
    caption has a verb of motion, at which video models move the object itself rather than the camera.

    Args:
        words: The most words that a caption may have.

    Example:
        >>> import pyarrow as pa
        >>> captions = ["a red chair", "two dogs playing", "living room with a sofa", "Fox Logo"]
        >>> table = pa.table({"id": list("abcd"), "prompt": captions})
        >>> RuleCaptionFilter()(table).select(["caption_reason", "motion"]).to_pydict()
        {'caption_reason': [None, 'several', 'scene', 'flat'], 'motion': [False, True, False, False]}
    """

    name = "caption_rules"
    reads = ("prompt",)
    writes: ClassVar[dict[str, pa.DataType]] = {
        "single_object": pa.bool_(),
        "caption_reason": pa.string(),
        "motion": pa.bool_(),
    }

    def __init__(self, words: int = 30) -> None:
        super().__init__(words=words)
        self.words = words

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Say yes or no, and why."""
        return [self._judge(row["prompt"]) for row in rows]

    def _judge(self, caption: str) -> Row:
        reason = why_not_single(caption, self.words)
        return {"single_object": reason is None, "caption_reason": reason, "motion": has_motion(caption)}


REASONS = {
    "empty": "it has no words",
    "long": "it has too many words",
    "foreign": "it is not in English",
    "web": "it is an address, a headline, an offer or a title",
    "flat": "it shows a picture or a paper, which has no other side",
    "scene": "it shows a place",
    "several": "it shows several things",
    "unnamed": "it is a title that names no thing that is known",
}
"""Reasons against a caption."""


def why_not_single(caption: str, most: int = 30) -> str | None:
    """The first of `REASONS` that speaks against a caption; None if it describes a single object.

    Args:
        caption: English text.
        most: Words that it may have.
    """
    text = html.unescape(caption).strip().strip("\"'").replace("’", "'")
    tokens = _WORD.findall(text.lower())
    if not any(re.search(r"[^\W\d_]", token) for token in tokens):
        return "empty"
    if len(tokens) > most:
        return "long"
    if _is_foreign(text, tokens):
        return "foreign"
    lower = text.lower()
    unframed = _FRAMING.sub("", lower)
    clauses = [_WORD.findall(clause) for clause in re.split(r"[,;:.(\[|]|\s[-–—/]+\s", unframed)]
    clauses = [clause for clause in clauses if clause] or [tokens]
    phrase = _noun_phrase(clauses[0])
    head = phrase[-1]
    title = _is_title(text)
    thing = any(_is_thing(word) for word in phrase[-2:])
    about = lexicon.TEXTUAL & set(tokens) if title else set()
    if _WEB.search(text) or tokens[0] in lexicon.COMMANDS or (not thing and (about or _AUTHOR.search(text))):
        return "web"
    bare = unframed == lower and tokens[0] not in lexicon.ARTICLES  # a title, or without an article
    flat = {head}
    if (bare or title) and not _is_thing(head):
        flat |= {*phrase, *(clause[-1] for clause in clauses)} - lexicon.PHOTOS
    if lexicon.FLAT & flat or any(lexicon.ART & set(clause) for clause in clauses[1:]) or _STOCK.search(lower):
        return "flat"
    if head in lexicon.PLACES or "view" in phrase:
        return "scene"
    unnamed = (bare or title) and not any(_is_thing(token) for token in tokens)
    if unnamed and title:  # "Jason Isaacs" is no plural
        return "unnamed"
    return "several" if _is_several(lower, phrase) else "unnamed" if unnamed else None


def has_motion(caption: str) -> bool:
    """Whether a caption has a verb of motion (`caption_words.MOTION`), in its form on -ing or -s.

    Example:
        >>> has_motion("a corgi riding a bike"), has_motion("a pair of running shoes")
        (True, False)
    """
    tokens = _WORD.findall(caption.lower())
    for place, token in enumerate(tokens):
        after = tokens[place + 1] if place + 1 < len(tokens) else ""
        if token in _MOVING and token not in lexicon.NOUNS_IN_ING and after not in lexicon.COMPOUNDS:
            return True
        before = tokens[place - 1] if place else "and"
        if token in _MOVES and before not in _STARTERS and before != "and" and after:
            return True
    return False


def _forms() -> tuple[frozenset[str], frozenset[str]]:
    """Forms on -ing and on -s."""
    moving, moves = set(), set()
    for verb in lexicon.MOTION:
        short = re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", verb)
        moving.add((verb[:-1] if verb.endswith("e") else verb + verb[-1] if short else verb) + "ing")
        if verb not in lexicon.ONLY_ING:
            moves.add(
                verb[:-1] + "ies" if re.search("[^aeiou]y$", verb) else verb + ("es" if verb[-1] in "hsx" else "s")
            )
    return frozenset(moving), frozenset(moves)


_MOVING, _MOVES = _forms()


def _is_foreign(text: str, tokens: Sequence[str]) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    strange = sum(ord(letter) > 0x24F for letter in letters)  # beyond Latin
    return strange * 5 > len(letters) or sum(token in lexicon.FOREIGN for token in tokens) > 1


def _is_title(text: str) -> bool:
    """Whether it is a name rather than a description: no article, and most words begin with a capital or a digit."""
    found = _WORD.findall(text)
    if any(word in ("a", "an", "the") for word in found) or found[0] in ("A", "An"):
        return False
    return 2 * sum(not word[0].islower() for word in found) > len(found)


def _noun_phrase(tokens: Sequence[str]) -> list[str]:
    """The words of a clause up to the first preposition or verb; of "a pair of shoes" it is "a pair", which is one."""
    phrase: list[str] = []
    for place, token in enumerate(tokens):
        after = tokens[place + 1] if place + 1 < len(tokens) else ""
        ends = token in lexicon.PREPOSITIONS or token in lexicon.VERBS
        if token.endswith("ing") and token not in lexicon.NOUNS_IN_ING and len(phrase) > 0:
            nominal = phrase[-1] not in lexicon.DETERMINERS
            ends |= nominal and (not after or after in _STARTERS)
            ends |= _is_thing(phrase[-1])
        if ends and phrase:
            break
        phrase.append(token)
    return phrase


def _is_several(text: str, phrase: Sequence[str]) -> bool:
    if _APART.search(text) or _ANOTHER.search(text):
        return True
    for relation, places in ((_BEFORE, lexicon.BACKDROPS), (_BESIDE, lexicon.EDGES)):
        found = relation.search(text)
        other = _noun_phrase(_WORD.findall(re.split("[,.;]", found[1])[0])) if found else []
        if other and other[-1] not in places:
            return True
    head = phrase[-1]
    if lexicon.NUMBERS & set(phrase[:2]) or head in lexicon.GROUPS:
        return True
    if _NUMBER.fullmatch(phrase[0]) and int(phrase[0]) in range(2, 1000):
        return True
    for place, token in enumerate(phrase[1:-1], 1):
        if token == "and" and not lexicon.COLOURS & {phrase[place - 1], phrase[place + 1]}:
            return True
    return head in lexicon.PLURALS or (_singular(head) != head and head not in lexicon.PAIRED)


def _is_thing(word: str) -> bool:
    return word in lexicon.THINGS or _singular(word) in lexicon.THINGS


def _singular(noun: str) -> str:
    """A regular plural's singular; anything else as it is."""
    if (
        not noun.endswith("s")
        or noun.endswith(("ss", "'s", "us", "is"))
        or noun in lexicon.SINGULAR_IN_S
        or len(noun) < 4
    ):
        return noun
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    return noun[:-2] if noun.endswith(("shes", "ches", "xes", "sses")) else noun[:-1]
