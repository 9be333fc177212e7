"""An independent reader: finds answers in the text of a story, knowing only the English of the fact sentences.

It never sees the generator's record of facts. Tests hold the generator's answers against it, and the evaluation judges
with it the stories that the model writes itself, for which no record exists.
"""

from __future__ import annotations

import re

_LINK = r"(?:Then |Soon |Later, |After that, )?"
_FACTS = {
    "was": re.compile(r"[A-Z][a-z ]+, (?P<who>[A-Z][a-z]+) was in the (?P<where>\w+)\."),
    "move": re.compile(_LINK + r"(?P<who>[A-Z][a-z]+) (?:went|ran|walked) to the (?P<where>\w+)\."),
    "own": re.compile(r"(?!It )(?P<who>[A-Z][a-z]+) (?:had|has) a (?P<color>\w+) (?P<thing>\w+)\."),
    "find": re.compile(r"(?P<who>[A-Z][a-z]+) found a (?P<color>\w+) (?P<thing>\w+)\."),
    "give": re.compile(_LINK + r"(?P<who>[A-Z][a-z]+) gave the (?P<thing>\w+) to (?P<to>[A-Z][a-z]+)\."),
    "put": re.compile(_LINK + r"(?P<who>[A-Z][a-z]+) (?:put|left|hid) the (?P<thing>\w+) in the (?P<where>\w+)\."),
    "meet": re.compile(r"Soon (?P<who>[A-Z][a-z]+) met (?P<to>[A-Z][a-z]+)\."),
}
_WISH = re.compile(
    r"(?:Write|Tell me) a story(?: about (?:(?P<hero>[A-Z]\w+) and )?an? (?:(?P<color>\w+) )?(?P<thing>\w+?)"
    r"(?: in the (?P<place>\w+))?)?\."
)
_SENTENCE = re.compile(r"[^.?!]+[.?!]")


def sentences(text: str) -> list[str]:
    """The sentences of `text`, each with its closing mark."""
    return [match.group().strip() for match in _SENTENCE.finditer(text)]


class Reading:
    """What a reader knows at the end of a story: the answer sentence to each question that it settles."""

    def __init__(self, text: str) -> None:
        self.answers: dict[str, str] = {}
        self._hero = ""
        for sentence in sentences(text):
            for kind, pattern in _FACTS.items():
                match = pattern.fullmatch(sentence)
                if match:
                    self._note(kind, match.groupdict())

    def _note(self, kind: str, fact: dict[str, str]) -> None:
        who, thing, where = fact["who"], fact.get("thing"), fact.get("where")
        if who in ("She", "He"):
            who = self._hero
        if kind == "was":
            self._hero = who
        if kind in ("was", "move"):
            self.answers[f"Where is {who}?"] = f"{who} is in the {where}."
        if kind in ("own", "find"):
            self.answers[f"Who has the {thing}?"] = f"{who} has the {thing}."
            self.answers[f"What color is the {thing}?"] = f"The {thing} is {fact['color']}."
        if kind == "find":
            self.answers[f"Who found the {thing}?"] = f"{who} found the {thing}."
            self.answers[f"What did {who} find?"] = f"{who} found a {fact['color']} {thing}."
        if kind == "give":
            self.answers[f"Who has the {thing}?"] = f"{fact['to']} has the {thing}."
        if kind == "put":
            self.answers[f"Where is the {thing}?"] = f"The {thing} is in the {where}."
            self.answers.pop(f"Who has the {thing}?", None)
            self.answers.pop(f"Where is {who}?", None)
        if kind == "meet":
            self.answers[f"Who did {who} meet?"] = f"{who} met {fact['to']}."


def is_sound_story(prompt: str, completion: str) -> bool:
    """Whether `completion` is what the wish `prompt` asks for.

    That is: a story of at least six sentences about that person and thing, with the colour and the place if they are
    named, closed by a question on the story and the answer that the story gives."""
    wish = _WISH.fullmatch(prompt)
    lines = sentences(completion)
    if wish is None or len(lines) < 8:
        return False
    *body, question, answer = lines
    answers = Reading(" ".join(body)).answers
    hero, color, thing, place = wish.groups()
    wanted = set()
    if thing:
        finders = [hero] if hero else [line.split()[-5] for line in body[:1] if len(line.split()) > 4]
        wanted |= {(f"Who found the {thing}?", f"{finder} found the {thing}.") for finder in finders}
    if color:
        wanted.add((f"What color is the {thing}?", f"The {thing} is {color}."))
    opening = f" was in the {place}." if place else " was in the "
    return answers.get(question) == answer and wanted <= answers.items() and opening in body[0]
