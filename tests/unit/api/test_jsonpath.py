"""JSONPath finds what kubectl finds, prints what kubectl prints, and says where a path is broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.api.jsonpath import JSONPathError, compile_path, compile_query
from kastra.api.jsonpath_template import Template, relaxed

OBJ = {
    "kind": "List",
    "items": [
        {"kind": "None", "metadata": {"name": "127.0.0.1", "labels": {"kubernetes.io/hostname": "127.0.0.1"}},
         "status": {"capacity": {"cpu": "4"}, "ready": True,
                    "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}]}},
        {"kind": "None", "metadata": {"name": "127.0.0.2", "labels": {"kubernetes.io/hostname": "127.0.0.2"}},
         "status": {"capacity": {"cpu": "8"}, "ready": False,
                    "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.2"}, {"type": "another", "address": "127.0.0.3"}]}},
    ],
    "users": [{"name": "myself", "user": {}}, {"name": "e2e", "user": {"username": "admin", "password": "secret"}}],
    "points": [{"x": 1, "y": 9}, {"x": 2}, {"x": 3.5, "y": None}],
    "a.b": {"c-d": [[1, 2], [3]]},
    "empty": [],
    "": "nameless",
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".kind", ["List"]),
        ("kind", ["List"]),
        ("$.kind", ["List"]),
        ("@.kind", ["List"]),
        ("{.kind}", ["List"]),
        ("['kind']", ["List"]),
        ('["kind"]', ["List"]),
        (".absent", []),
        (".kind.absent", []),
        (".items[0].metadata.name", ["127.0.0.1"]),
        (".items[-1].metadata.name", ["127.0.0.2"]),
        (".items[5].metadata.name", []),
        (".items[-3]", []),
        (".items[*].metadata.name", ["127.0.0.1", "127.0.0.2"]),
        (".points[0:2].x", [1, 2]),
        (".points[1:].x", [2, 3.5]),
        (".points[:1].x", [1]),
        (".points[::2].x", [1, 3.5]),
        (".points[-1:].x", [3.5]),
        (".points[0,2].x", [1, 3.5]),
        (".points[2].y", [None]),
        (".users[1].user['username','password']", ["admin", "secret"]),
        (".users[1].user.*", ["admin", "secret"]),
        (".users[1].user[*]", ["admin", "secret"]),
        (r".a\.b.c-d[0][1]", [2]),
        ("['a.b']['c-d'][1][0]", [3]),
        (r".items[0].metadata.labels.kubernetes\.io/hostname", ["127.0.0.1"]),
        (".items[*].metadata.labels['kubernetes.io/hostname']", ["127.0.0.1", "127.0.0.2"]),
        ("..name", ["127.0.0.1", "127.0.0.2", "myself", "e2e"]),
        (".items..address", ["127.0.0.1", "127.0.0.2", "127.0.0.3"]),
        ("..addresses[1].type", ["another"]),
        ('.users[?(@.name=="e2e")].user.password', ["secret"]),
        (".users[?(@.name=='e2e')].name", ["e2e"]),
        (".users[?( @.name != 'e2e' )].name", ["myself"]),
        (".users[?(@.user.username)].name", ["e2e"]),
        (".points[?(@.x>1)].x", [2, 3.5]),
        (".points[?(@.x>=2)].x", [2, 3.5]),
        (".points[?(@.x<2)].x", [1]),
        (".points[?(@.x<=-1)].x", []),
        (".points[?(@.x==3.5)].x", [3.5]),
        (".points[?(@.y==null)].x", [3.5]),
        (".points[?(@.x!=@.y)].x", [1, 3.5]),
        (".items[?(@.status.ready==true)].metadata.name", ["127.0.0.1"]),
        (".items[?(@.status.ready==1)].metadata.name", []),
        (".items[?(@.status.addresses[?(@.type=='another')])].metadata.name", ["127.0.0.2"]),
        (".points[?(2<@.x)].x", [3.5]),
        (".users[?(@.name>'f')].name", ["myself"]),
        (".users[?(@.name>1)].name", []),
        (".empty[*]", []),
    ],
)
def test_a_path_finds_all_values_and_the_first(path: str, found: list) -> None:
    assert compile_query(path)(OBJ) == found
    assert compile_path(path)(OBJ) == (found[0] if found else None)


def test_the_empty_path_is_the_object_itself() -> None:
    assert compile_path("")(OBJ) is OBJ
    assert compile_path("{.}")(OBJ) is OBJ


@pytest.mark.parametrize("obj", [None, 3, "x", [], {"a": None}, {"a": [1]}])
def test_paths_into_other_shapes_find_nothing(obj: object) -> None:
    assert compile_path(".a.b.c")(obj) is None
    assert compile_path(".a[0].c")(obj) is None


@pytest.mark.parametrize(
    ("path", "message", "position"),
    [
        (".a[", "expected an index, a quoted name, '*' or '?(' in '['", 3),
        (".a['b", "unterminated quoted string", 3),
        (".a[0", "unterminated '['", 2),
        (".a[x]", "expected an index", 3),
        (".a[1-]", "invalid array index '1-'", 3),
        (".a[::0]", "step must be > 0", 3),
        (".a[0 1]", "unexpected '1' in '['", 2),
        (".a[?(@.b==1]", "unexpected ']'", 11),
        (".a[?(@.b==1", "unterminated filter", 11),
        (".a[?@.b]", "expected '(' after '?'", 3),
        (".a[?(@.b=1)]", "unexpected '='", 8),
        (".a[?(x)]", "expected a path, a quoted text, a number, true or false, not 'x'", 5),
        (".a b", "unexpected ' '", 2),
        ("..", "expected a name after '..'", 2),
        (".a...b", "expected a name after '..'", 4),
        (".a}", "unexpected '}'", 2),
        ("a\\", "nothing after the backslash", 2),
    ],
)
def test_a_broken_path_says_what_is_wrong_and_where(path: str, message: str, position: int) -> None:
    with pytest.raises(JSONPathError) as caught:
        compile_path(path)
    assert message in str(caught.value)
    assert caught.value.position == position


def test_paths_and_filters_are_bounded() -> None:
    with pytest.raises(JSONPathError, match="at most 8192 are allowed"):
        compile_path(".a" * 5000)
    with pytest.raises(JSONPathError, match="filters are nested too deeply"):
        compile_path(".a[?(@" * 100)


@given(st.text(".[]*?(@)='\"\\{}ab01-: <>!,", max_size=30))
def test_any_text_is_a_path_or_a_jsonpath_error(text: str) -> None:
    for parse in (lambda: compile_path(text)(OBJ), lambda: Template(text).render(OBJ)):
        try:
            parse()
        except JSONPathError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("kind is {.kind}", "kind is List"),
        ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
        ("{range .items[*]}{.metadata.name}{end}", "127.0.0.1127.0.0.2"),
        (r'{range .items[*]}{.metadata.name}{"\t"}{.status.capacity.cpu}{"\n"}{end}', "127.0.0.1\t4\n127.0.0.2\t8\n"),
        ("{range .items[*]}[{range .status.addresses[*]}{@.address},{end}]{end}!", "[127.0.0.1,][127.0.0.2,127.0.0.3,]!"),
        ("{range .empty[*]}x{end}", ""),
        ("{.absent}", ""),
        ("{.items[?(@.status.ready)].metadata.name}", "127.0.0.1 127.0.0.2"),
        ("{.users[1].user}", '{"password":"secret","username":"admin"}'),
        ("{.points[*].x} {.points[2].y}{.items[0].status.ready}", "1 2 3.5 true"),
        ("{ .kind }{'q'}", "Listq"),
        ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
        (r"{.items[0].metadata.labels.kubernetes\.io/hostname}", "127.0.0.1"),
        ('{.users[?(@.name=="e2e")].name}', "e2e"),
        ("{@.kind}{$.kind}", "ListList"),
        ("}", "}"),
    ],
)  # fmt: skip
def test_templates_print_as_kubectl_does(template: str, text: str) -> None:
    assert Template(template).render(OBJ) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{.kind", "unclosed action at position 0"),
        ("ab{", "unclosed action at position 2"),
        ("{end}", "not in range, nothing to end at position 0"),
        ("x{range .items[*]}{.kind}", "range without end at position 1"),
        ("{kind}", "unrecognized 'k' in action"),
        ("{.kind .x}", "unexpected '.' in action at position 7"),
        ("{.a[}", "in '['"),
    ],
)
def test_a_broken_template_says_what_is_wrong_and_where(template: str, message: str) -> None:
    with pytest.raises(JSONPathError) as caught:
        Template(template)
    assert message in str(caught.value)


def test_an_index_out_of_bounds_is_an_error_and_an_absent_field_only_if_asked() -> None:
    with pytest.raises(JSONPathError, match="array index out of bounds: index 5, length 2"):
        Template("{.items[5]}").render(OBJ)
    with pytest.raises(JSONPathError, match="absent is not found"):
        Template("{.absent}", allow_missing=False).render(OBJ)


@pytest.mark.parametrize(
    ("typed", "template"),
    [("metadata.name", "{.metadata.name}"), (".kind", "{.kind}"), ("{.kind}", "{.kind}"), ("", ""), ("[0]", "{[0]}")],
)
def test_braces_are_optional_around_a_single_path(typed: str, template: str) -> None:
    assert relaxed(typed) == template
