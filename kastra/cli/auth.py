"""`kastra auth`: who am I, what may I do, and a token for a ServiceAccount.

Asked of the server by the review kinds, as kubectl does. A store that is used directly, without a server, has no users:
there everything is allowed.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from .layout import aligned
from .options import examples, namespace_option
from .session import owning, reading, settings_of, target_of

if TYPE_CHECKING:
    from kastra.client.interface import Client


def _asking(body: "Callable[[Client], Awaitable[int]]") -> int:
    """Run `body` with a client of the server, if there is one: it knows who is asking."""
    from kastra.app.clusters import serving_owner

    if target_of() is None and serving_owner(settings_of().store) is None:
        return reading(body)
    return owning(lambda operations: body(operations.client))


@click.group(
    epilog=examples(
        "kastra auth whoami",
        "kastra auth can-i create runs",
        "kastra auth can-i --list",
        "kastra auth token default --duration 1h",
    )
)
def auth() -> None:
    """Identity and permissions: whoami, can-i, token."""


@auth.command()
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="Everything that is known.")
def whoami(output: str | None) -> int:
    """Say as whom the server sees you."""
    return _asking(lambda client: _whoami(client, output))


async def _whoami(client: "Client", output: str | None) -> int:
    from .output import OutputFormat, write_value

    made = await client.create({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}})
    info = made.data["status"]["userInfo"]
    if output:
        click.echo(write_value(OutputFormat(output), info), nl=False)
        return 0
    rows = [("ATTRIBUTE", "VALUE"), ("Username", info["username"]), ("Groups", f"[{' '.join(info.get('groups', ()))}]")]
    rows += [(f"Extra: {key}", f"[{' '.join(values)}]") for key, values in (info.get("extra") or {}).items()]
    click.echo("\n".join(aligned(rows)))
    return 0


@auth.command("can-i")
@click.argument("verb", required=False)
@click.argument("target", required=False, metavar="[RESOURCE[.GROUP][/NAME] | /PATH]")
@namespace_option
@click.option("--subresource", default="", metavar="NAME", help="Something below the resource, such as cancel.")
@click.option("--list", "everything", is_flag=True, help="All that you may do in the namespace.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing; the exit code tells.")
def can_i(verb: str | None, target: str | None, **options: Any) -> int:
    """Say yes or no; the exit code is 0 or 1."""
    if options["everything"]:
        return _asking(lambda client: _list_rules(client, options["namespace"]))
    if verb is None or target is None:
        raise click.UsageError("say what: kastra auth can-i VERB RESOURCE, or --list")
    return _asking(lambda client: _can_i(client, verb, target, options))


async def _can_i(client: "Client", verb: str, target: str, options: dict[str, Any]) -> int:
    spec: dict[str, Any]
    if target.startswith("/"):
        spec = {"nonResourceAttributes": {"verb": verb, "path": target}}
    else:
        named, _, name = target.partition("/")
        resource = client.scheme.find(named)
        spec = {
            "resourceAttributes": {
                "verb": verb,
                "group": resource.group,
                "resource": resource.plural,
                "subresource": options["subresource"],
                "name": name,
                "namespace": options["namespace"] if resource.namespaced else "",
            }
        }
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": spec}
    status = (await client.create(review)).data["status"]
    if not options["quiet"]:
        reason = f" - {status['reason']}" if status.get("reason") and not status["allowed"] else ""
        click.echo(("yes" if status["allowed"] else "no") + reason)
    return 0 if status["allowed"] else 1


async def _list_rules(client: "Client", namespace: str) -> int:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "metadata": {},
        "spec": {"namespace": namespace},
    }
    status = (await client.create(review)).data["status"]
    rows = [("RESOURCES", "NON-RESOURCE URLS", "RESOURCE NAMES", "VERBS")]
    for rule in status["resourceRules"]:
        groups = rule.get("apiGroups") or [""]
        names = [f"{one}.{group}" if group else one for group in groups for one in rule.get("resources", ())]
        rows.append((_listed(names), "[]", _listed(rule.get("resourceNames", ())), _listed(rule["verbs"])))
    rows += [
        ("", _listed(rule["nonResourceURLs"]), "[]", _listed(rule["verbs"])) for rule in status["nonResourceRules"]
    ]
    click.echo("\n".join(aligned(rows)))
    return 0


def _listed(values: Any) -> str:
    return f"[{' '.join(values)}]"


@auth.command()
@click.argument("name", metavar="SERVICEACCOUNT")
@namespace_option
@click.option("--duration", default="1h", metavar="TIME", help="How long it is good: at least 10m.", show_default=True)
@click.option("--audience", "audiences", multiple=True, metavar="NAME", help="For whom it is; repeatable.")
def token(name: str, namespace: str, duration: str, audiences: tuple[str, ...]) -> int:
    """Print a token of a ServiceAccount; a server makes it."""
    from kastra.api.durations import parse_duration

    spec: dict[str, Any] = {"expirationSeconds": int(parse_duration(duration))}
    if audiences:
        spec["audiences"] = list(audiences)
    return _asking(lambda client: _token(client, namespace, name, spec))


async def _token(client: "Client", namespace: str, name: str, spec: dict[str, Any]) -> int:
    from kastra.api.meta import ObjectRef

    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    async for made in client.connect(ObjectRef("serviceaccounts", name, namespace), "token", body):
        click.echo(made["status"]["token"])
    return 0
