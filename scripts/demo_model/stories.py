"""Small stories whose facts are known: who is where, who holds what, which colour a thing has.

A story is told sentence by sentence. Each sentence either states a fact, which is recorded, or adds colour and states
none that a question asks about. What may be asked follows from the record, so every question has one answer in the
text. The module draws all choices from the `random.Random` it is given. It knows nothing of tokens or of other tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

GIRLS = ("Anna", "Clara", "Emma", "Lily", "Mia", "Nora")
BOYS = ("Ben", "Finn", "Leo", "Max", "Sam", "Tom")
NAMES = GIRLS + BOYS
PLACES = ("attic", "barn", "cave", "cellar", "forest", "garden", "kitchen", "library", "park", "tower")
COLORS = ("black", "blue", "golden", "green", "red", "silver", "white", "yellow")

LORE: dict[str, tuple[str, str, str]] = {
    "apple": ("The apple was sweet and round.", "It smelled of summer.", "A little worm looked out and said hello."),
    "ball": ("The ball bounced up and down.", "It rolled away down the hill.", "It was the best game of all."),
    "bell": ("The bell rang like a song.", "Its sound could be heard far away.", "All the sheep came running."),
    "boat": (
        "The boat was small, but it could float.",
        "It had a big sail and a tiny flag.",
        "The waves made it rock.",
    ),
    "book": ("The book was full of dragons.", "Each page told of a brave knight.", "The last page was missing."),
    "cake": ("The cake smelled of honey.", "It had nine candles on top.", "A mouse had eaten a small piece."),
    "coin": ("The coin was old and shiny.", "There was a king on one side.", "It could buy a hundred sweets."),
    "doll": ("The doll had a tiny coat.", "It looked like a little queen.", "Its shoes were made of wood."),
    "drum": ("The drum went boom, boom, boom.", "It was so loud that the birds flew away.", "Everyone began to dance."),
    "hat": ("The hat was much too big.", "It had a long feather on top.", "A little bird wanted to sleep in it."),
    "key": ("The key was old and heavy.", "It could open a secret door.", "Behind the door was a box full of sweets."),
    "kite": (
        "The wind was strong, and the kite flew high.",
        "It danced in the sky like a bird.",
        "It had a long tail.",
    ),
    "lamp": ("The lamp was warm and bright.", "It made shadows dance on the wall.", "The night was not dark any more."),
    "map": ("The map showed the way to a treasure.", "There was a big cross in the middle.", "It was very, very old."),
}
"""Each thing and what can be said of it; no line names a person, a place or a colour."""
THINGS = tuple(LORE)

OPENINGS = (
    "One sunny morning",
    "One cold evening",
    "One rainy day",
    "One quiet afternoon",
    "One windy day",
    "Early one morning",
    "Once upon a time",
)
MOODS = ("{} was very happy.", "{} laughed and laughed.", "{} could not believe it.", "{} had never seen one like it.")
LIKES = ("{} liked it very much.", "{} wanted to play with it too.", "{} asked a hundred questions about it.")
ENDINGS = (
    "They were friends from that day on.",
    "It was a very good day.",
    "In the end, everyone was happy.",
    "What a day it was!",
)
LINKS = ("", "", "Then ", "Soon ", "Later, ", "After that, ")
MOVES = ("went", "ran", "walked")
PUTS = ("put", "left", "hid")


def a_or_an(word: str) -> str:
    """`word` with the article that English gives it."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def pronoun(name: str) -> str:
    return "She" if name in GIRLS else "He"


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a story and its one right answer, both whole sentences."""

    kind: str
    """What is asked for: 'where', 'who', 'what' or 'color'."""
    text: str
    answer: str


@dataclass(slots=True)
class Story:
    """A story being told: its sentences so far and the facts that they state."""

    sentences: list[str] = field(default_factory=list)
    person_at: dict[str, str | None] = field(default_factory=dict)
    """Where each person was last seen; None once a later sentence leaves that open."""
    holder: dict[str, str] = field(default_factory=dict)
    lies_in: dict[str, str] = field(default_factory=dict)
    color: dict[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    """Thing by finder."""
    met: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return " ".join(self.sentences)

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def move(self, rng: Random, who: str, where: str, link: str = "") -> None:
        self.say(f"{link}{who} {rng.choice(MOVES)} to the {where}.")
        self.person_at[who] = where

    def own(self, who: str, thing: str, color: str, verb: str = "had") -> None:
        self.say(f"{who} {verb} a {color} {thing}.")
        self.holder[thing], self.color[thing] = who, color

    def find(self, who: str, thing: str, color: str, named: str | None = None) -> None:
        self.say(f"{named or who} found a {color} {thing}.")
        self.holder[thing], self.color[thing], self.found[who] = who, color, thing

    def give(self, who: str, thing: str, to: str, link: str = "") -> None:
        self.say(f"{link}{who} gave the {thing} to {to}.")
        self.holder[thing] = to

    def put(self, rng: Random, who: str, thing: str, where: str, link: str = "") -> None:
        self.say(f"{link}{who} {rng.choice(PUTS)} the {thing} in the {where}.")
        del self.holder[thing]
        self.lies_in[thing] = where
        self.person_at[who] = None

    def questions(self) -> list[Question]:
        """All questions that the text answers, each once."""
        asked = [Question("where", f"Where is {p}?", f"{p} is in the {w}.") for p, w in self.person_at.items() if w]
        asked += [Question("where", f"Where is the {t}?", f"The {t} is in the {w}.") for t, w in self.lies_in.items()]
        asked += [Question("who", f"Who has the {t}?", f"{p} has the {t}.") for t, p in self.holder.items()]
        asked += [Question("who", f"Who found the {t}?", f"{p} found the {t}.") for p, t in self.found.items()]
        asked += [
            Question("what", f"What did {p} find?", f"{p} found a {self.color[t]} {t}.") for p, t in self.found.items()
        ]
        asked += [Question("who", f"Who did {p} meet?", f"{p} met {other}.") for p, other in self.met.items()]
        asked += [Question("color", f"What color is the {t}?", f"The {t} is {c}.") for t, c in self.color.items()]
        return asked


@dataclass(frozen=True, slots=True)
class Wish:
    """What a story must be about. What is empty is left to chance."""

    hero: str
    thing: str
    color: str = ""
    place: str = ""


def tell(rng: Random, wish: Wish | None = None) -> Story:
    """A story of 6 to 11 sentences: somebody finds something, meets somebody, and the two do things with it."""
    chance = Wish(rng.choice(NAMES), rng.choice(THINGS), rng.choice(COLORS), rng.choice(PLACES))
    wish = wish or chance
    hero, thing, color, place = wish.hero, wish.thing, wish.color or chance.color, wish.place or chance.place
    friend = rng.choice([name for name in NAMES if name != hero])
    story = Story()
    story.say(f"{rng.choice(OPENINGS)}, {hero} was in the {place}.")
    story.person_at[hero] = place
    story.find(hero, thing, color, named=pronoun(hero) if rng.random() < 0.5 else None)
    lore = sorted(rng.sample(range(3), rng.choice((1, 2, 2))))
    for index in lore:
        story.say(LORE[thing][index])
    if rng.random() < 0.4:
        story.say(rng.choice(MOODS).format(hero))
    story.say(f"Soon {hero} met {friend}.")
    story.met[hero] = friend
    if rng.random() < 0.4:
        other = rng.choice([t for t in THINGS if t != thing])
        story.own(friend, other, rng.choice([c for c in COLORS if c != color]))
    else:
        story.say(rng.choice(LIKES).format(friend))
    _act(rng, story, hero, friend, thing)
    if rng.random() < 0.5:
        story.say(rng.choice(ENDINGS))
    return story


def _act(rng: Random, story: Story, hero: str, friend: str, thing: str) -> None:
    """Let the two give the thing away, lay it down and part, in 2 to 4 sentences that each state a fact."""
    holder, other = hero, friend
    if rng.random() < 0.6:
        story.give(holder, thing, other, rng.choice(LINKS))
        holder, other = other, holder
    places = rng.sample(PLACES, 3)
    if rng.random() < 0.6:
        story.put(rng, holder, thing, places[0], rng.choice(LINKS))
    leavers = rng.sample((hero, friend), rng.choice((1, 2, 2)))
    for who, where in zip(leavers, places[1:], strict=False):
        story.move(rng, who, where, rng.choice(LINKS))


def tell_plainly(rng: Random, facts: int) -> Story:
    """`facts` bare sentences about two to four people, who may move more than once: the last move counts."""
    people = rng.sample(NAMES, min(4, max(2, facts - 1)))
    things = rng.sample(THINGS, len(people))
    story = Story()
    for _ in range(facts):
        who = rng.choice(people)
        thing = things[people.index(who)]
        step = rng.random()
        if step < 0.5:
            story.move(
                rng, who, rng.choice([p for p in PLACES if p != story.person_at.get(who)]), rng.choice(LINKS[:3])
            )
        elif thing not in story.color:
            if rng.random() < 0.5:
                story.find(who, thing, rng.choice(COLORS))
            else:
                story.own(who, thing, rng.choice(COLORS), rng.choice(("had", "has")))
        elif thing in story.holder and step < 0.8:
            holder = story.holder[thing]
            story.give(holder, thing, rng.choice([p for p in people if p != holder]))
        elif thing in story.holder:
            story.put(rng, story.holder[thing], thing, rng.choice(PLACES))
        else:
            story.move(rng, who, rng.choice([p for p in PLACES if p != story.person_at.get(who)]))
    return story
