"""Settings: one frozen object from defaults, a file, the environment and flags, in rising order of precedence.

The file is `kastra.toml` in the project folder (the nearest folder upwards that has one, or `.kastra/`), the environment
variables are `KASTRA_<NAME>`. Nothing reads settings while running: `kastra.app` hands each part what it needs.

Read next: `kastra.app.composition`.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

FILE_NAME = "kastra.toml"
DATA_FOLDER = ".kastra"
STORE_NAME = "kastra.db"
_CHOICES = {
    "serve_controllers": ("all", "builtin", "none"),
    "cassettes": ("", "off", "record", "replay", "auto"),
}
_MAY_BE_NONE = ("chat_history",)
"""Numbers that may be 0."""


class ConfigError(ValueError):
    """A setting can't be used; the message names it, where it stands and what it takes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set.

    Args:
        project: the folder from which tools' Python modules are imported.
        controllers: folders of the project with controllers for its own kinds.
        data: the folder of the store, its key and its endpoint file; `.kastra` in the project by default.
        driver: `libsql` or `sqlite3`; empty for what the file was made with, or what is installed.
        concurrent_runs: Runs executing at the same time; more wait in order.
        default_model: `provider/name` used by Agents that nothing else gives a model; empty for none.
        cassettes: what every model does with its cassette, whatever its Model says: `record`, `replay`, `auto` or `off`; empty
            for what its Model says.
        vectors: which index searches the vectors of messages: `builtin`, or the name of one that an installed package adds.
        chat_history: lines that `kastra chat` on a terminal keeps from chat to chat, in the user's state folder; 0 for none.
        lock_timeout: seconds to wait for another process to let go of the store.
        grace: seconds that running steps get to finish when the process is asked to stop.
        allow_private_hosts: host names and networks that outbound calls may reach although they are private.
        log_level: for the structured log on standard error.
        listen: where `kastra serve` serves, as HOST:PORT.
        serve_controllers: which controllers `kastra serve` runs: `all`, `builtin` (the project's and those of installed packages run
            elsewhere, by `kastra controllers`), or `none`, in which case no Runs are executed either.
        tls_cert: file of the server's own certificate (PEM, the leaf first); empty for one that is made.
        tls_key: file of its key.
        watches_per_user: watches that one user may have open at the same time; more get 429.
        mcp_allowed_origins: of web pages that may call `/mcp` of `kastra serve`, such as `https://chat.example.com`; none by default.
        mcp_sessions: that MCP clients may have open at the same time; one more gets 503.
        client_ca: file of certificates (PEM) of those who may vouch for clients of `kastra serve`, beside its own authority.
        oidc_issuer_url: https URL of an OpenID provider whose ID tokens `kastra serve` accepts; empty for none.
        oidc_client_id: for whom its tokens must be (`aud`).
        oidc_username_claim: the claim that names the user.
        oidc_username_prefix: put before that name; empty for the issuer and `#` (for none if the claim is `email`), `-` for none.
        oidc_groups_claim: the claim that names the groups; empty for no groups.
        oidc_groups_prefix: put before each group.
        oidc_required_claims: `NAME=VALUE` of claims that tokens must have.
        oidc_signing_algs: of signatures that are accepted; empty for all of RS, PS and ES with 256, 384 and 512.
        oidc_ca_file: file of certificates (PEM) of those who may vouch for the provider; empty for the system's.
    """

    project: Path = field(default_factory=Path.cwd)
    controllers: tuple[str, ...] = ("controllers",)
    data: Path = Path(DATA_FOLDER)
    driver: str = ""
    concurrent_runs: int = 64
    default_model: str = ""
    cassettes: str = ""
    vectors: str = "builtin"
    chat_history: int = 1000
    lock_timeout: float = 10.0
    grace: float = 10.0
    allow_private_hosts: tuple[str, ...] = ()
    log_level: str = "warning"
    listen: str = "127.0.0.1:6443"
    serve_controllers: str = "all"
    tls_cert: str = ""
    tls_key: str = ""
    watches_per_user: int = 15_000
    mcp_allowed_origins: tuple[str, ...] = ()
    mcp_sessions: int = 1000
    client_ca: str = ""
    oidc_issuer_url: str = ""
    oidc_client_id: str = ""
    oidc_username_claim: str = "sub"
    oidc_username_prefix: str = ""
    oidc_groups_claim: str = ""
    oidc_groups_prefix: str = ""
    oidc_required_claims: tuple[str, ...] = ()
    oidc_signing_algs: tuple[str, ...] = ()
    oidc_ca_file: str = ""

    @property
    def store(self) -> Path:
        """The store file."""
        return self.data / STORE_NAME


def load_settings(start: Path | None = None, environment: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """The settings that hold in folder `start` (the working directory by default).

    Args:
        flags: values given on the command line; None means not given.

    Raises:
        ConfigError: an unknown name, or a value of the wrong kind.
    """
    start = (start or Path.cwd()).resolve()
    environment = os.environ if environment is None else environment
    project = next((folder for folder in (start, *start.parents) if _marks_project(folder)), start)
    values: dict[str, Any] = {"project": project, "data": project / DATA_FOLDER}
    file = project / FILE_NAME
    if file.is_file():
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: {error}") from None
        for name, value in content.items():
            key = _known(name.replace("-", "_"), f"{file}: {name}")
            values[key] = _convert(key, value, str(file), project)
    for setting in fields(Settings):
        variable = f"KASTRA_{setting.name.upper()}"
        if environment.get(variable):
            values[setting.name] = _convert(setting.name, environment[variable], variable, Path.cwd())
    for name, value in flags.items():
        if value is not None:
            values[_known(name, name)] = _convert(name, value, f"--{name.replace('_', '-')}", Path.cwd())
    return replace(Settings(), **values)


def _marks_project(folder: Path) -> bool:
    return (folder / FILE_NAME).is_file() or (folder / DATA_FOLDER).is_dir()


def _known(name: str, where: str) -> str:
    if name not in {setting.name for setting in fields(Settings)}:
        raise ConfigError(f"{where}: no such setting; there are {', '.join(f.name for f in fields(Settings))}")
    return name


def _whole(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError("must be a whole number") from None


def _convert(name: str, value: Any, where: str, base: Path) -> Any:
    default = getattr(Settings(project=base), name)
    try:
        if isinstance(default, Path):
            return (base / Path(value).expanduser()).resolve()
        if isinstance(default, tuple):
            return tuple(value.replace(",", " ").split()) if isinstance(value, str) else tuple(map(str, value))
        if isinstance(default, int):
            number, least = _whole(value), 0 if name in _MAY_BE_NONE else 1
            if number < least:
                raise ValueError(f"must be at least {least}")
            return number
        if isinstance(default, float):
            return float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {name} = {value!r}: {error}") from None
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {name} = {value!r}: must be a text")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise ConfigError(f"{where}: {name} = {value!r}: must be one of {', '.join(_CHOICES[name])}")
    return value
