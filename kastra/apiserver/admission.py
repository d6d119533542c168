"""May this object be stored, and in what shape? One ordered chain for every kind and every caller.

    prune -> default -> mutating hooks (prune and default again if there are any) -> structural schema -> rules
          -> the kind's `validate` -> policies -> validating hooks

`mutate` runs up to the mutating hooks and settles what the object looks like; `validate` decides. Between the two
only the kind's strategy changes the object. Both take one argument, the Attributes, which gather what is found. Never
writes metadata (that is the registry's) and never imports a typed view: `validate` functions are plugged in by kind.

Source: apiserver/pkg/admission. Read next: `kastra.apiserver.registry`, the one caller.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from kastra.api.errors import BadRequest, Cause, Invalid, invalid
from kastra.api.scheme import Resource
from kastra.api.values import copy

from .call import Call, User
from .metadata import content_changed
from .served import Served


class Operation(StrEnum):
    """What is being done to the object."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


@dataclass(slots=True)
class Attributes:
    """One request for admission.

    Args:
        object: as it is to be stored; mutating hooks may change it in place or replace it. None for DELETE and CONNECT.
        old_object: as it is now; None for CREATE. Never to be changed.
        subresource: `status`, `scale`, ...; empty for the object itself.
        causes: what is wrong so far; `validate` refuses the object when there are any.
        unknown: paths of fields that no schema knows and that were dropped.
        mutated: whether mutating hooks have had the object.
    """

    operation: Operation
    served: Served
    namespace: str
    name: str
    object: dict[str, Any] | None
    old_object: Mapping[str, Any] | None
    call: Call
    subresource: str = ""
    causes: list[Cause] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    mutated: bool = False

    @property
    def resource(self) -> Resource:
        """Of what kind the object is."""
        return self.served.resource

    @property
    def user(self) -> User:
        """Who asks."""
        return self.call.user

    @property
    def dry_run(self) -> bool:
        """Whether nothing will be stored; hooks with effects of their own must then refuse or abstain."""
        return self.call.options.dry_run


Hook = Callable[[Attributes], Awaitable[None]]
"""Refuses by raising a StatusError; a policy or validating hook may also add causes."""


class MutatingHook(Protocol):
    """A hook that may change the object. Asked beforehand, since making room for one costs a second look at the schema."""

    def applies(self, attributes: Attributes) -> bool:
        """Whether it has anything to do with the request."""
        ...

    async def __call__(self, attributes: Attributes) -> None:
        """Change or replace `attributes.object`, or refuse by raising a StatusError."""
        ...


Validate = Callable[[Mapping[str, Any]], Sequence[Cause]]
"""What a kind's schema can't say, given the object with all defaults."""

ValidateUpdate = Callable[[Mapping[str, Any], Mapping[str, Any]], Sequence[Cause]]
"""What a kind's rules can't say of a change, given the new object and the old one."""


class AdmissionChain:
    """The steps in order, and where others plug in.

    Args:
        validators: `validate` of kinds, by (group, kind). Read at every request, so entries may be added later.
        update_validators: `validate_update` of kinds, likewise.
    """

    def __init__(
        self,
        validators: MutableMapping[tuple[str, str], Validate] | None = None,
        update_validators: MutableMapping[tuple[str, str], ValidateUpdate] | None = None,
    ) -> None:
        self.validators = validators if validators is not None else {}
        self.update_validators = update_validators if update_validators is not None else {}
        self.mutating: list[MutatingHook] = []
        self.policies: list[Hook] = []
        self.validating: list[Hook] = []

    async def mutate(self, attributes: Attributes) -> None:
        """Settle the object's shape.

        Raises:
            BadRequest: there are unknown or duplicate fields and the caller asked for `Strict`.
            StatusError: a mutating hook refused.
        """
        obj = attributes.object
        assert obj is not None
        schema = attributes.served.schema
        hooks = self._concerned(attributes)
        if not hooks:
            admitted = schema.admit(obj, attributes.old_object)
            attributes.unknown += admitted.pruned
            _judge_unknown(attributes)
            found = admitted.causes
        else:
            if attributes.old_object is not None:
                # Hooks may change the new object in place, and it may share parts with the old one.
                obj = attributes.object = copy(obj)
            attributes.unknown += schema.normalise(obj)
            _judge_unknown(attributes)
            attributes.mutated = True
            for hook in hooks:
                await hook(attributes)
            assert attributes.object is not None
            # Hooks may have added what must be pruned, or left out what has defaults.
            found = schema.admit(attributes.object, attributes.old_object).causes
        attributes.causes += found

    def _concerned(self, attributes: Attributes) -> list[MutatingHook]:
        return [hook for hook in self.mutating if hook.applies(attributes)]

    async def validate(self, attributes: Attributes) -> None:
        """Decide on the object as it stands.

        Raises:
            Invalid: with every cause found up to the first step that found any.
            StatusError: a policy or validating hook refused.
        """
        obj, old = attributes.object, attributes.old_object
        if obj is not None:
            # What was stored once stays changeable in its metadata and status, even if today's rules would refuse it.
            if not attributes.causes and (old is None or content_changed(obj, old)):
                resource = attributes.resource
                kind = (resource.group, resource.kind)
                if kind in self.validators:
                    attributes.causes += self.validators[kind](obj)
                if kind in self.update_validators and old is not None:
                    attributes.causes += self.update_validators[kind](obj, old)
            if attributes.causes:
                raise _refusal(attributes)
        else:
            # Where there is no object they can't change anything, but may still refuse.
            for mutating in self._concerned(attributes):
                await mutating(attributes)
        for hook in (*self.policies, *self.validating):
            await hook(attributes)
        if attributes.causes:
            raise _refusal(attributes)


def _refusal(attributes: Attributes) -> Invalid:
    resource = attributes.resource
    return invalid(resource.kind, resource.group, attributes.name, attributes.causes)


def _judge_unknown(attributes: Attributes) -> None:
    mode = attributes.call.options.field_validation
    if mode == "Ignore" or not (attributes.unknown or attributes.call.decoding_errors):
        return
    duplicate, unknown = attributes.call.decoding_errors, [f'unknown field "{path}"' for path in attributes.unknown]
    # As Kubernetes: decoding a typed object finds both, of a custom one what is unknown is found when it is pruned.
    problems = [*unknown, *duplicate] if attributes.resource.builtin else [*duplicate, *unknown]
    if mode == "Strict":
        kind, version = attributes.resource.kind, attributes.resource.version
        raise BadRequest(
            f'{kind} in version "{version}" cannot be handled as a {kind}: strict decoding error: {", ".join(problems)}'
        )
    attributes.call.warnings += problems
