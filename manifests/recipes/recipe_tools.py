"""Which recipes can be cooked with what is in the kitchen? The Python behind the Tool recipe-finder.

Ranks the recipes of `recipes.jsonl` by how much of each can be made from the ingredients at hand. Plain Python: nothing here
knows of Kastra.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).with_name("recipes.jsonl")
STAPLES = frozenset({"salt", "black pepper", "water", "oil"})
"""What every kitchen has; never counts as missing."""


def find_recipes(
    ingredients: list[str] | None = None,
    text: str = "",
    limit: int = 3,
    max_minutes: int | None = None,
    cuisine: str = "",
) -> dict[str, Any]:
    """Recipes that use the given ingredients, best first.

    Args:
        ingredients: what is at hand, such as ["eggs", "tomatoes"].
        text: instead, a sentence that names ingredients.
        limit: recipes to return at most.
        max_minutes: only recipes that take no longer.
        cuisine: only recipes of this cuisine.

    Returns:
        `recipes`, each with `have`, `missing` and a `score` from 0 to 1, and the `recognised` ingredients.
    """
    known = sorted({item for recipe in _recipes() for item in recipe["ingredients"]})
    wanted = [*(ingredients or []), *_mentioned(text, known)]
    found = []
    for recipe in _recipes():
        if max_minutes is not None and recipe["minutes"] > max_minutes:
            continue
        if cuisine and recipe["cuisine"].lower() != cuisine.lower():
            continue
        have = [item for item in recipe["ingredients"] if any(_same(item, other) for other in wanted)]
        if not have:
            continue
        missing = [item for item in recipe["ingredients"] if item not in have and item not in STAPLES]
        used = {other for other in wanted if any(_same(item, other) for item in have)}
        # Half for how complete the recipe is, half for how much of what is at hand it uses up.
        score = 0.5 * len(have) / (len(have) + len(missing)) + 0.5 * len(used) / len(set(wanted))
        found.append({**recipe, "have": have, "missing": missing, "score": round(score, 3)})
    found.sort(key=lambda recipe: (-recipe["score"], recipe["minutes"], recipe["name"]))
    recognised = sorted({other for other in wanted if any(_same(item, other) for item in known)})
    return {"recipes": found[:limit], "recognised": recognised}


@cache
def _recipes() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RECIPES.read_text(encoding="utf-8").splitlines()]


def _mentioned(text: str, known: list[str]) -> list[str]:
    words = f" {' '.join(_singular(word) for word in re.findall(r'[a-z]+', text.lower()))} "
    return [item for item in known if f" {' '.join(_singular(word) for word in item.split())} " in words]


def _same(item: str, other: str) -> bool:
    """Whether `other`, as people write it, means the recipe's `item`: "egg" is "eggs", "basil" is "thai basil"."""
    a, b = ([_singular(word) for word in re.findall(r"[a-z]+", text.lower())] for text in (item, other))
    return bool(b) and (a == b or (len(a) > len(b) and a[-len(b) :] == b))


def _singular(word: str) -> str:
    if word.endswith("oes"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
