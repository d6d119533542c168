"""What the settings say of an OpenID provider, and what they can't mean."""

from pathlib import Path
from typing import Any

import pytest

from kastra.apiserver.oidc import Provider
from kastra.app.identity import openid, provider_of
from kastra.clock import SystemClock
from kastra.config import ConfigError, Settings, load_settings
from kastra.netguard import Policy

ISSUER = "https://login.example.com"
GIVEN: dict[str, Any] = {"oidc_issuer_url": ISSUER, "oidc_client_id": "kastra"}


def settings(**given: Any) -> Settings:
    return Settings(**{**GIVEN, **given})


def test_without_settings_there_is_no_provider() -> None:
    assert provider_of(Settings()) is None


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ({}, f"{ISSUER}#"),
        ({"oidc_username_claim": "name"}, f"{ISSUER}#"),
        ({"oidc_username_claim": "email"}, ""),
        ({"oidc_username_prefix": "-"}, ""),
        ({"oidc_username_prefix": "oidc:"}, "oidc:"),
    ],
)
def test_users_are_prefixed_as_in_kubernetes(given: dict[str, Any], prefix: str) -> None:
    provider = provider_of(settings(**given))
    assert provider is not None
    assert provider.username_prefix == prefix


def test_settings_come_from_the_file_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "kastra.toml").write_text(
        f'oidc_issuer_url = "{ISSUER}"\noidc_groups_claim = "groups"\noidc_required_claims = ["hd=example.com", "a=b=c, d"]\n'
    )
    environment = {"KASTRA_OIDC_CLIENT_ID": "kastra", "KASTRA_OIDC_SIGNING_ALGS": "RS256,ES256"}
    provider = provider_of(load_settings(tmp_path, environment))
    assert provider == Provider(
        ISSUER, "kastra", "sub", f"{ISSUER}#", "groups", "", {"hd": "example.com", "a": "b=c, d"},
        frozenset({"RS256", "ES256"}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"oidc_issuer_url": ""}, "oidc_client_id has no effect without oidc_issuer_url"),
        (
            {"oidc_issuer_url": "", "oidc_client_id": "", "oidc_username_claim": "x"},
            "oidc_username_claim has no effect",
        ),
        ({"oidc_client_id": ""}, "needs oidc_client_id"),
        ({"oidc_issuer_url": "http://127.0.0.1:1"}, "https"),
        ({"oidc_issuer_url": "https://user@example.com"}, "user information"),
        ({"oidc_issuer_url": "https://exa mple"}, "blanks"),
        ({"oidc_required_claims": ("hd",)}, "NAME=VALUE"),
        ({"oidc_signing_algs": ("HS256",)}, "HS256"),
        ({"oidc_username_prefix": "system:"}, "the server's own"),
    ],
)
def test_a_mistake_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        provider_of(settings(**given))


@pytest.mark.parametrize("content", [None, "", "nonsense"], ids=["missing", "empty", "nonsense"])
async def test_a_file_of_authorities_that_can_not_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"oidc_ca_file .*ca\.crt"):
        async with openid(settings(oidc_ca_file=str(file)), Policy(), SystemClock()):
            pass


async def test_an_issuer_that_can_not_be_reached_delays_nothing_and_errors_come_through_as_they_are() -> None:
    with pytest.raises(KeyError):
        async with openid(settings(oidc_issuer_url="https://127.0.0.1:1"), Policy(), SystemClock()) as tokens:
            assert tokens is not None
            assert tokens.user_of("a.b.c") is None
            raise KeyError


def test_the_settings_in_the_documentation_mean_a_provider(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "access.md").read_text(encoding="utf-8")
    (tmp_path / "kastra.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    provider = provider_of(load_settings(tmp_path, {}))
    assert provider is not None
    assert (provider.issuer, provider.username_claim, provider.username_prefix, provider.groups_prefix) == (
        "https://login.example.com/realms/staff", "email", "oidc:", "oidc:",
    )  # fmt: skip
