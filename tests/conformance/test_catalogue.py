"""Every case on the list is run or not run for a reason, and none is both."""

from collections import Counter

from .catalogue import cases, run_by, skipped


def test_every_case_is_tested_or_skipped_with_a_reason_and_none_is_both() -> None:
    names = {case.name for case in cases()}
    assert names - set(run_by()) - set(skipped()) == set(), "neither tested nor skipped"
    assert set(run_by()) & set(skipped()) == set(), "tested and skipped"
    assert all(reason.strip() for reason in skipped().values())


def test_every_test_and_every_reason_is_for_a_case_on_the_list() -> None:
    names = {case.name for case in cases()}
    assert set(run_by()) - names == set()
    assert set(skipped()) - names == set()


def test_no_case_is_listed_twice_and_the_first_tier_is_whole() -> None:
    assert [name for name, count in Counter(case.name for case in cases()).items() if count > 1] == []
    assert sum(case.tier == 1 for case in cases()) == 39
    assert [case.name for case in cases() if case.tier == 1 and case.name in skipped()] == []
