"""Extract, transform, load: the Python behind three Tools.

Reads orders from a CSV file beside this one, cleans them, and sums them up. Every function takes and returns JSON-like
data, so each can be a step of its own. Reads from this folder and writes to `.out/` below it, nowhere else.
"""

import csv
import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
OUTPUT = FOLDER / ".out"
EURO = {"EUR": 1.0, "USD": 0.92, "GBP": 1.17}
"""Euros per unit of a currency, fixed for the example."""


def read_csv(file: str) -> dict[str, Any]:
    """The rows of a CSV file in this folder, as they are: everything is text.

    Args:
        file: name of the file.
    """
    with _inside(FOLDER, file).open(newline="", encoding="utf-8") as stream:
        rows = [dict(row) for row in csv.DictReader(stream)]
    return {"rows": rows, "count": len(rows)}


def clean_orders(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows with proper dates, numbers and amounts in euros; what can't be used is listed with the reason.

    Args:
        rows: as read_csv gives them.
    """
    orders: list[dict[str, Any]] = []
    rejected: list[dict[str, str]] = []
    seen: set[str] = set()
    for row in rows:
        number = row["order_id"].strip()
        try:
            if number in seen:
                raise ValueError("duplicate")
            order = _order(number, row)
        except ValueError as error:
            rejected.append({"order": number, "reason": str(error)})
            continue
        seen.add(number)
        orders.append(order)
    return {"orders": orders, "rejected": rejected}


def load_summary(orders: list[dict[str, Any]], rejected: list[dict[str, str]], file: str = "") -> dict[str, Any]:
    """Revenue by product and by country; written to a JSON file in `.out/` when one is named.

    Args:
        orders: clean orders.
        rejected: rows that were left out.
        file: name of the file to write; nothing is written when it is empty.
    """
    products: dict[str, float] = {}
    countries: dict[str, float] = {}
    for order in orders:
        products[order["product"]] = products.get(order["product"], 0.0) + order["euros"]
        countries[order["country"]] = countries.get(order["country"], 0.0) + order["euros"]
    summary = {
        "orders": len(orders),
        "rejected": len(rejected),
        "revenue": round(sum(order["euros"] for order in orders), 2),
        "byProduct": _ranked(products),
        "byCountry": _ranked(countries),
    }
    if file:
        OUTPUT.mkdir(exist_ok=True)
        target = _inside(OUTPUT, file)
        draft = target.with_suffix(".tmp")
        draft.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        # Replacing at once means that a reader never sees half a file, and that doing it twice does no harm.
        draft.replace(target)
    return summary


def _order(number: str, row: dict[str, str]) -> dict[str, Any]:
    customer = " ".join(row["customer"].split()).title()
    if not customer:
        raise ValueError("no customer")
    if not row["quantity"].strip().lstrip("-").isdigit() or int(row["quantity"]) < 1:
        raise ValueError(f"quantity {row['quantity']!r}")
    try:
        price = float(row["unit_price"].replace(",", "."))
    except ValueError:
        raise ValueError(f"price {row['unit_price']!r}") from None
    currency = row["currency"].strip().upper()
    if currency not in EURO:
        raise ValueError(f"currency {row['currency']!r}")
    return {
        "order": number,
        "date": _date(row["date"]).isoformat(),
        "customer": customer,
        "country": row["country"].strip().upper(),
        "product": row["product"].strip(),
        "quantity": int(row["quantity"]),
        "euros": round(int(row["quantity"]) * price * EURO[currency], 2),
    }


def _date(text: str) -> date:
    for form in ("%Y-%m-%d", "%d/%m/%Y"):
        try:
            return datetime.strptime(text.strip(), form).date()  # noqa: DTZ007 - a day, not a moment
        except ValueError:
            continue
    raise ValueError(f"date {text!r}")


def _ranked(sums: dict[str, float]) -> list[dict[str, Any]]:
    return [{"name": name, "euros": round(sums[name], 2)} for name in sorted(sums, key=lambda n: (-sums[n], n))]


def _inside(folder: Path, file: str) -> Path:
    path = (folder / file).resolve()
    if path.parent != folder:
        raise ValueError(f"{file!r} is not a file of {folder.name}")
    return path
