"""How much of the question does an answer hold, and how like it is it? Measures of words and characters; none asks a model.

    completeness         of the words of the question that say something, how many the answer has, also as parts of longer ones
    keyword-coverage     as above, whole words only
    content-similarity   pairs of neighbouring characters that both have (Sorensen-Dice)
    textual-difference   the longest common subsequence of characters, by both lengths; 1 is no difference

Source: the code scorers of Mastra; words are taken as they stand, since there is no dictionary. Read next:
`kastra.agent.scorers.catalogue`.
"""

import re
from collections import Counter

from .sample import Sample, Score

_WORD = re.compile(r"[^\W_]+(?:[.'-][^\W_]+)*")
_STOP = frozenset(
    """a about after again all also am an and any are as at be because been before being between both but by can could did do does
    doing for from further had has have having he her here hers him his how i if in into is it its itself just me more most my no nor
    not now of off on once only or other our ours out over own please same she should so some such than that the their theirs them
    then there these they this those through to too under until up very was we were what when where which while who whom why will
    with would you your yours""".split()  # noqa: SIM905 - read more easily so
)
_MOST_WORDS = 500
"""Words of a text that are looked at."""
_SHORT = 3
"""Characters of words that must be the same."""
_OVERLAP = 0.6
"""Share of a longer word that another one must have of it."""


def keyword_coverage(sample: Sample) -> float:
    """Of the keywords of the question, how many the answer has."""
    wanted, there = _keywords(sample.asked), _keywords(sample.said)
    if not wanted or not there:
        return float(not wanted and not there)
    return len(wanted & there) / len(wanted)


def completeness(sample: Sample) -> float:
    """Of the words of the question that say something, how many the answer covers."""
    wanted, there = _keywords(sample.asked), _keywords(sample.said)
    if not wanted or not there:
        return float(not wanted and not there)
    return sum(word in there or _covered(word, there) for word in wanted) / len(wanted)


def content_similarity(*, fold: bool, squeeze: bool) -> Score:
    """The measure, with or without regard to letter case (`fold`) and to blanks (`squeeze`)."""

    def score(sample: Sample) -> float:
        asked, said = sample.asked, sample.said
        if fold:
            asked, said = asked.casefold(), said.casefold()
        if squeeze:
            asked, said = " ".join(asked.split()), " ".join(said.split())
        return dice(asked, said)

    return score


def textual_difference(sample: Sample) -> float:
    """How much of both is common to them, in order."""
    asked, said = sample.asked, sample.said
    if asked == said:
        return 1.0
    return 2 * common(asked, said) / (len(asked) + len(said))


def dice(one: str, other: str) -> float:
    """Pairs of neighbouring characters that two texts have in common, by those that they have; blanks don't count."""
    one, other = "".join(one.split()), "".join(other.split())
    if one == other:
        return 1.0
    if len(one) < 2 or len(other) < 2:
        return 0.0
    pairs = Counter(map(str.__add__, one, one[1:])) & Counter(map(str.__add__, other, other[1:]))
    return 2 * pairs.total() / (len(one) + len(other) - 2)


def common(one: str, other: str) -> int:
    """The length of the longest common subsequence."""
    places: dict[str, int] = {}
    for at, char in enumerate(one):
        places[char] = places.get(char, 0) | 1 << at
    # One bit for each character of `one`, a whole row of the table at once (Hyyro 2004).
    every = (1 << len(one)) - 1
    row = every
    for char in other:
        met = row & places.get(char, 0)
        row = ((row + met) | (row - met)) & every
    return len(one) - row.bit_count()


def _keywords(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.casefold())[:_MOST_WORDS] if word not in _STOP}


def _covered(word: str, there: set[str]) -> bool:
    if len(word) <= _SHORT:
        return False
    return any(
        (word in other or other in word) and min(len(word), len(other)) / max(len(word), len(other)) > _OVERLAP
        for other in there
    )
