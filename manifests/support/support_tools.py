"""Orders and answers: the Python behind the Tools of the support desk. Reads two JSON Lines files beside it, changes nothing."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
_ORDER = re.compile(r"\b([A-Z]-\d{4})\b", re.IGNORECASE)


def lookup_order(order: str = "", text: str = "") -> dict[str, Any]:
    """An order by its number.

    Args:
        order: the number, such as A-1002.
        text: instead, a sentence that has the number in it.
    """
    match = _ORDER.search(order or text)
    number = match[1].upper() if match else order
    found = _orders().get(number)
    if found is None:
        return {"found": False, "order": number, "answer": f"There is no order {number!r}; numbers look like A-1002."}
    return {"found": True, "order": number, **found, "answer": _sentence(number, found)}


def search_faq(question: str) -> dict[str, Any]:
    """The answer to a frequent question.

    Args:
        question: as the customer asked it.
    """
    asked = question.lower()
    ranked = sorted(_faq(), key=lambda entry: -sum(len(word) for word in entry["words"] if word in asked))
    best = ranked[0]
    hits = [word for word in best["words"] if word in asked]
    if not hits:
        return {
            "found": False,
            "answer": "That is not among the frequent questions; a person will answer within a day.",
        }
    return {"found": True, "topic": best["topic"], "answer": best["answer"]}


def _sentence(number: str, order: dict[str, Any]) -> str:
    items = " and ".join(order["items"])
    match order["status"]:
        case "shipped":
            return (
                f"Order {number} ({items}) is on its way with {order['carrier']} and expected on {order['expected']}."
            )
        case "processing":
            return f"Order {number} ({items}) is being packed and expected on {order['expected']}."
        case "delivered":
            return f"Order {number} ({items}) was delivered on {order['delivered']}."
        case status:
            return (
                f"Order {number} ({items}) was {status}; {order['total']} euros were refunded on {order['refunded']}."
            )


@cache
def _orders() -> dict[str, Any]:
    return {order.pop("order"): order for order in _lines("orders.jsonl")}


@cache
def _faq() -> list[dict[str, Any]]:
    return _lines("faq.jsonl")


def _lines(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / file).read_text(encoding="utf-8").splitlines()]
