"""A field that takes values of several shapes: one sentence says which, whatever was tried.

pydantic reports a union once for each of its members, with the member's name in the path: of use to whoever wrote the view, not to
whoever wrote the manifest. Read next: `kastra.runtime.view_errors`.
"""

from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from .view_errors import invalid, shape_error


def either(shapes: str) -> WrapValidator:
    """Tells a value that is none of a union's what it could be.

        Choice = Annotated[Literal["auto"] | Forced, either("auto or {tool: NAME}")]

    Args:
        shapes: the values that there are, as a manifest has them.
    """

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise shape_error(invalid(value, f"must be {shapes}", "")) from None

    return WrapValidator(check)
