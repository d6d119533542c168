"""Search over a small corpus and a look at its figures: the Python behind the Tools search-corpus and extract-figures.

Ranks the texts of `corpus/` by BM25, the usual measure of full-text search, and returns the sentence of each that matches
best. Reads its texts once, changes nothing. Source: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009).
"""

import math
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

CORPUS = Path(__file__).with_name("corpus")
_STOP = """
a about all an and are as at be by can do does for from has have how in is it its many much need of on or that the their
them they this to was what when where which who why will with
"""
_FIGURE = re.compile(r"\d[\d,.]*\d?\s(?:percent|euros|tonnes|hectares|hours|kilometres|kilowatt hours|metres|years)\b")


class _Text(NamedTuple):
    name: str
    title: str
    sentences: list[str]
    words: Counter[str]


def search_corpus(query: str, limit: int = 3) -> dict[str, Any]:
    """The texts that fit a question best.

    Args:
        query: words or a question.
        limit: texts to return at most.

    Returns:
        `results`, each with `source`, `title`, `score` and the best `sentence`.
    """
    wanted = _words(query)
    texts = _texts()
    scored = [(_score(text, wanted, texts), text) for text in texts]
    best = sorted((item for item in scored if item[0] > 0), key=lambda item: (-item[0], item[1].name))[:limit]
    return {
        "query": query,
        "results": [
            {
                "source": text.name,
                "title": text.title,
                "score": round(score, 3),
                "sentence": max(text.sentences, key=lambda s: len(set(_words(s)) & set(wanted))),
            }
            for score, text in best
        ],
    }


def extract_figures(text: str) -> dict[str, Any]:
    """The figures in a text.

    Args:
        text: any text.

    Returns:
        `figures`, each with `figure` and `sentence`, in the order of the text and without repeats.
    """
    figures: dict[str, str] = {}
    for sentence in re.split(r"(?<=[.!?])\s+", " ".join(text.split())):
        for match in _FIGURE.finditer(sentence):
            figures.setdefault(match[0], sentence)
    return {"figures": [{"figure": figure, "sentence": sentence} for figure, sentence in figures.items()]}


def _score(text: _Text, wanted: list[str], texts: list[_Text]) -> float:
    length = sum(text.words.values())
    average = sum(sum(other.words.values()) for other in texts) / len(texts)
    total = 0.0
    for word in set(wanted):
        containing = sum(1 for other in texts if word in other.words)
        rarity = math.log(1 + (len(texts) - containing + 0.5) / (containing + 0.5))
        count = text.words[word]
        total += rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / average))
    return total


@cache
def _texts() -> list[_Text]:
    found = []
    for path in sorted(CORPUS.glob("*.md")):
        title, _, body = path.read_text(encoding="utf-8").partition("\n")
        title = title.lstrip("# ")
        sentences = re.split(r"(?<=[.!?])\s+", " ".join(body.split()))
        # The title counts three times: it says what the text is about.
        found.append(_Text(path.stem, title, sentences, Counter(_words(f"{title} {title} {title} {body}"))))
    return found


def _words(text: str) -> list[str]:
    words, stop = re.findall(r"[a-z0-9]+", text.lower()), _STOP.split()
    return [word[:-1] if word.endswith("s") and len(word) > 3 else word for word in words if word not in stop]
