"""Settings come from defaults, kastra.toml, the environment and flags; the later wins, and mistakes are named."""

from pathlib import Path

import pytest

from kastra.config import ConfigError, load_settings


def test_the_data_folder_lies_in_the_nearest_project(tmp_path: Path) -> None:
    (tmp_path / "kastra.toml").write_text("concurrent_runs = 2\n")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    settings = load_settings(inner, {})
    assert settings.project == tmp_path
    assert settings.store == tmp_path / ".kastra" / "kastra.db"
    assert settings.concurrent_runs == 2


def test_flags_win_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "kastra.toml").write_text('grace = 2.0\nconcurrent-runs = 3\ndefault_model = "openai/a"\n')
    settings = load_settings(tmp_path, {"KASTRA_CONCURRENT_RUNS": "5", "KASTRA_DEFAULT_MODEL": "b/c"}, grace=9)
    assert (settings.grace, settings.concurrent_runs, settings.default_model) == (9, 5, "b/c")


def test_lists_are_separated_by_commas_or_spaces_in_the_environment(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {"KASTRA_ALLOW_PRIVATE_HOSTS": "localhost, 10.0.0.0/8"})
    assert settings.allow_private_hosts == ("localhost", "10.0.0.0/8")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("worker = 2\n", "worker: no such setting"),
        ("concurrent_runs = 0\n", "must be at least 1"),
        ('concurrent_runs = "many"\n', "must be a whole number"),
        ("log_level = 3\n", "must be a text"),
        ('serve_controllers = "some"\n', "must be one of all, builtin, none"),
        ("workers = \n", "kastra.toml"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "kastra.toml").write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_settings(tmp_path, {})
    assert "kastra.toml" in str(caught.value)
