"""What recognises users of a server beside its own tokens, as the settings say: a provider of OpenID Connect.

Settings are those of kube-apiserver's `--oidc-*` options. The provider's keys are kept fresh while the server runs; that it
can't be reached delays nothing and nobody else. Read next: `kastra.apiserver.oidc`.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path

import anyio

from kastra.apiserver.oidc import OIDCTokens, Provider
from kastra.apiserver.oidc_keys import ALGORITHMS, ProviderKeys
from kastra.clock import Clock
from kastra.config import ConfigError, Settings
from kastra.netguard import Guard, Policy, Refused, Target

_NO_PREFIX = "-"


@asynccontextmanager
async def openid(settings: Settings, policy: Policy, clock: Clock) -> AsyncIterator[OIDCTokens | None]:
    """The source of tokens that the settings ask for, while the block lasts; None if they ask for none.

    Args:
        policy: of outbound calls; the issuer's own host may be private, since the operator named it.

    Raises:
        ConfigError: the settings can't be used.
    """
    provider = provider_of(settings)
    if provider is None:
        yield None
        return
    host = Target.parse(provider.issuer).host
    policy = replace(policy, allow_private_hosts=(*policy.allow_private_hosts, host))
    authorities = _authorities(settings.oidc_ca_file)
    failure: Exception | None = None
    async with Guard(policy) as guard, anyio.create_task_group() as tasks:
        keys = ProviderKeys(provider.issuer, guard, clock, authorities=authorities)
        tasks.start_soon(keys.run)
        # What goes wrong in the caller's block must reach the caller as it is, not in a group.
        try:
            yield OIDCTokens(provider, keys, clock)
        except Exception as error:  # noqa: BLE001 - raised again below, outside the task group
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


def provider_of(settings: Settings) -> Provider | None:
    """What the settings say of a provider; None if they name none. Raises ConfigError."""
    if not settings.oidc_issuer_url:
        default = Settings()
        for setting in fields(Settings):
            if setting.name.startswith("oidc_") and getattr(settings, setting.name) != getattr(default, setting.name):
                raise ConfigError(f"{setting.name} has no effect without oidc_issuer_url")
        return None
    if not settings.oidc_client_id:
        raise ConfigError("oidc_issuer_url needs oidc_client_id: for whom the provider's tokens must be")
    prefix = settings.oidc_username_prefix
    if prefix == _NO_PREFIX:
        prefix = ""
    elif not prefix and settings.oidc_username_claim != "email":
        # As in Kubernetes: so that nobody at the provider is taken for a user of this server's own.
        prefix = f"{settings.oidc_issuer_url}#"
    required = {}
    for text in settings.oidc_required_claims:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ConfigError(f"oidc_required_claims: {text!r}: write NAME=VALUE")
        required[name] = value
    try:
        Target.parse(settings.oidc_issuer_url)
        return Provider(
            settings.oidc_issuer_url,
            settings.oidc_client_id,
            settings.oidc_username_claim,
            prefix,
            settings.oidc_groups_claim,
            settings.oidc_groups_prefix,
            required,
            frozenset(settings.oidc_signing_algs or ALGORITHMS),
        )
    except (Refused, ValueError) as error:
        raise ConfigError(f"oidc settings: {error}") from None


def _authorities(file: str) -> str:
    """The certificates of a file, if there is one to be used. Raises ConfigError."""
    if not file:
        return ""
    try:
        text = Path(file).read_text(encoding="ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"oidc_ca_file {file}: {error}") from None
    return text
