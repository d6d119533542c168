"""The tools of JSON, YAML and CSV."""

from typing import Any

import pytest

from tests.support.toolbox import Toolbox, listed

SHOP = {"items": [{"name": "tea", "price": 3}, {"name": "cup", "price": 8}], "a/b": {"c~d": [1, 2]}}
TABLE = "name,price,code,sold\ntea,3.5,007,2\ncup,8,012,\n\npot,21,100,1\n"


async def test_json_is_read_and_written_with_the_place_of_a_mistake(box: Toolbox) -> None:
    assert await box.call("json.parse", {"text": '{"a": [1, null]}'}) == {"a": [1, None]}
    assert "line 2, column 7" in (await box.refused("json.parse", {"text": '{"a": 1,\n "b": x}'})).message
    assert await box.call("json.format", {"value": {"a": [1]}, "indent": False}) == '{"a":[1]}'
    assert await box.call("json.format", {"value": {"a": 1}}) == '{\n  "a": 1\n}'


@pytest.mark.parametrize(
    ("pointer", "found"),
    [("", SHOP), ("/items/1/name", "cup"), ("/a~1b/c~0d/0", 1), ("/items/0", SHOP["items"][0])],  # type: ignore[index]
)
async def test_a_part_is_taken_by_pointer(pointer: str, found: Any, box: Toolbox) -> None:
    assert await box.call("json.get", {"value": SHOP, "pointer": pointer}) == found


@pytest.mark.parametrize(
    ("pointer", "words"), [("/itms", "it has items, a/b"), ("/items/7", "a list of 2"), ("items", "begin with a slash")]
)
async def test_a_part_that_is_not_there_names_what_is(pointer: str, words: str, box: Toolbox) -> None:
    assert words in (await box.refused("json.get", {"value": SHOP, "pointer": pointer})).message


async def test_values_are_queried_by_cel(box: Toolbox) -> None:
    expression = "value.items.filter(i, i.price > 5).map(i, i.name)"
    assert await box.call("json.query", {"value": SHOP, "expression": expression}) == ["cup"]
    refused = await box.refused("json.query", {"value": SHOP, "expression": "value.nothing"})
    assert refused.type == "expression"
    assert "nothing" in refused.message
    assert (await box.refused("json.query", {"value": SHOP, "expression": "value +"})).type == "expression"


async def test_values_are_patched_whole_or_not_at_all(box: Toolbox) -> None:
    operations = [
        {"op": "test", "path": "/items/0/name", "value": "tea"},
        {"op": "replace", "path": "/items/0/price", "value": 4},
        {"op": "remove", "path": "/items/1"},
    ]
    made = await box.call("json.patch", {"value": SHOP, "operations": operations})
    assert made["items"] == [{"name": "tea", "price": 4}]
    for wrong in ({"op": "remove", "path": "/nope"}, {"op": "jump", "path": "/a"}, {"op": "add"}):
        refused = await box.refused("json.patch", {"value": SHOP, "operations": [*operations, wrong]})
        assert refused.message.startswith("operations[3]: ")


async def test_values_are_merged_as_rfc_7386_says(box: Toolbox) -> None:
    changes = {"a": None, "b": {"c": 2}, "d": [1]}
    assert await box.call("json.merge", {"value": {"a": 1, "b": {"x": 1}}, "changes": changes}) == {
        "b": {"x": 1, "c": 2},
        "d": [1],
    }
    assert await box.call("json.merge", {"value": [1], "changes": {"a": {"b": None}}}) == {"a": {}}


async def test_a_difference_is_told_by_paths(box: Toolbox) -> None:
    found = await box.call("json.diff", {"before": {"a": 1, "l": [1, 2, 3]}, "after": {"b/c": 2, "l": [1, 5]}})
    assert found["changes"] == [
        {"op": "remove", "path": "/a", "old": 1},
        {"op": "replace", "path": "/l/1", "old": 2, "new": 5},
        {"op": "remove", "path": "/l/2", "old": 3},
        {"op": "add", "path": "/b~1c", "new": 2},
    ]
    assert await box.call("json.diff", {"before": SHOP, "after": SHOP}) == {"equal": True, "changes": []}
    assert not (await box.call("json.diff", {"before": 1, "after": True}))["equal"]


async def test_a_value_is_checked_by_a_schema(box: Toolbox) -> None:
    schema = {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}
    assert await box.call("json.validate", {"value": {"n": 1}, "schema": schema}) == {"valid": True, "problems": []}
    found = await box.call("json.validate", {"value": {"n": "x"}, "schema": schema})
    assert found["problems"] == ["n: 'x' is not of type 'integer'"]
    assert "schema" in (await box.refused("json.validate", {"value": 1, "schema": {"type": "nope"}})).message


async def test_a_schema_that_describes_a_tree_may_refer_to_itself(box: Toolbox) -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "value": {"type": "integer"}}}
    deep: dict[str, Any] = {"value": 0}
    for number in range(40):
        deep = {"value": number, "left": deep}
    assert (await box.call("json.validate", {"value": deep, "schema": tree}))["valid"]


async def test_yaml_is_read_and_written(box: Toolbox) -> None:
    assert await box.call("yaml.parse", {"text": "a: [1, yes]\nb: |\n  x\n"}) == {"a": [1, True], "b": "x\n"}
    assert await box.call("yaml.parse", {"text": "a: 1\n---\nb: 2\n", "all_documents": True}) == [{"a": 1}, {"b": 2}]
    assert "2 documents" in (await box.refused("yaml.parse", {"text": "a: 1\n---\nb: 2\n"})).message
    assert "line 2, column" in (await box.refused("yaml.parse", {"text": "a: 1\n b: : 2"})).message
    assert await box.call("yaml.format", {"value": {"a": ["yes", 1]}}) == 'a:\n- "yes"\n- 1\n'


async def test_a_table_is_read_with_numbers_as_numbers_and_codes_as_texts(box: Toolbox) -> None:
    found = await box.call("csv.read", {"text": TABLE})
    assert found["rows"][0] == {"name": "tea", "price": 3.5, "code": "007", "sold": 2}
    assert found["rows"][1]["sold"] == ""
    assert found["total"] == 3
    page = await box.call("csv.read", {"text": TABLE, "offset": 1, "limit": 1})
    assert (listed(page["rows"], "name"), page["truncated"]) == (["cup"], "rows 2 to 2 of 3")


async def test_a_table_comes_from_a_file_with_any_separator(box: Toolbox) -> None:
    (box.folder / "t.csv").write_text('\ufeffname;name;\nx;"a\nb";1\n')
    assert (await box.call("csv.read", {"path": "t.csv"}))["rows"] == [{"name": "x", "name_2": "a\nb", "column3": 1}]
    both = await box.refused("csv.read", {"path": "t.csv", "text": "a"})
    assert "exactly one" in both.message


async def test_rows_are_filtered_by_cel(box: Toolbox) -> None:
    found = await box.call("csv.filter", {"text": TABLE, "where": "row.price > 5", "columns": ["name"]})
    assert found["rows"] == [{"name": "cup"}, {"name": "pot"}]
    refused = await box.refused("csv.filter", {"text": TABLE, "where": "row.prize > 5"})
    assert "columns: name, price, code, sold" in refused.message
    assert (
        "no column 'x'" in (await box.refused("csv.filter", {"text": TABLE, "where": "true", "columns": ["x"]})).message
    )


async def test_rows_are_aggregated_by_group(box: Toolbox) -> None:
    text = "kind,n\na,1\nb,5\na,2.5\na,\n"
    measures = {"n": "sum"}
    assert (await box.call("csv.aggregate", {"text": text, "by": ["kind"], "measures": measures}))["groups"] == [
        {"kind": "a", "rows": 3, "sum_n": 3.5},
        {"kind": "b", "rows": 1, "sum_n": 5},
    ]
    for kind, value in {"avg": 2.8333333333, "min": 1, "max": 5, "count": 3, "distinct": 3}.items():
        [group] = (await box.call("csv.aggregate", {"text": text, "measures": {"n": kind}}))["groups"]
        assert group[f"{kind}_n"] == value
    assert "has no sum" in (await box.refused("csv.aggregate", {"text": text, "measures": {"kind": "sum"}})).message
    some = await box.call("csv.aggregate", {"text": text, "measures": {"n": "sum"}, "where": "row.kind == 'b'"})
    assert some["groups"] == [{"rows": 1, "sum_n": 5}]


async def test_rows_are_written_as_a_table(box: Toolbox) -> None:
    rows = [{"a": 1, "b": 'say "x", y'}, {"c": None}]
    assert (await box.call("csv.write", {"rows": rows}))["text"] == 'a,b,c\n1,"say ""x"", y",\n,,\n'
    assert await box.call("csv.write", {"rows": rows, "path": "out/t.csv"}) == {"path": "out/t.csv", "rows": 2}
    assert (box.folder / "out/t.csv").read_text().startswith("a,b,c\n")
