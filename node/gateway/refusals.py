"""What is refused, in OpenAI's error shape: a status, a type, a code, and the parameter that it is about."""

from __future__ import annotations

from collections import Counter
from typing import Any

from protocol.errors import (
    ConfigurationError,
    FundsError,
    JoulemeshError,
    ModelError,
    PeerError,
    RefusedError,
    RoutingError,
    RuleError,
)
from protocol.policy.policy import ReasonCode
from protocol.routing.routes import NoRouteError

__all__ = ["ApiError", "invalid", "missing", "refusal_of", "unsupported"]

_BUSY_S = 5
"""Seconds after which to ask again, where nobody said."""


class ApiError(Exception):
    """An answer that is a refusal.

    Args:
        status: of HTTP.
        kind: OpenAI's ``type``.
        code: for programs.
        param: of the request, that it is about.
        retry_s: seconds after which the same may be asked again; None where time alone changes nothing.
        allow: the methods of HTTP that would do; empty where that is not the trouble.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str,
        code: str,
        param: str | None = None,
        retry_s: int | None = None,
        allow: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.retry_s = retry_s
        self.allow = allow

    def to_json(self) -> dict[str, Any]:
        """The body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """OpenAI's clients ask again after some errors by themselves, unless they are told that it is no use."""
        if self.allow:
            return {"Allow": self.allow, "x-should-retry": "false"}
        if self.retry_s is None:
            return {"x-should-retry": "false"}
        return {"Retry-After": str(self.retry_s), "x-should-retry": "true"}


def invalid(param: str | None, message: str, *, code: str = "invalid_value") -> ApiError:
    """A parameter that is not what it should be."""
    return ApiError(400, message, kind="invalid_request_error", code=code, param=param)


def missing(param: str, message: str) -> ApiError:
    """A parameter that is needed, and left out."""
    return invalid(param, message, code="missing_required_parameter")


def unsupported(param: str, message: str = "") -> ApiError:
    """A parameter that nothing here can do."""
    text = message or f"{param!r} is not supported here; leave it out"
    return invalid(param, text, code="unsupported_parameter")


def _refused_parameter(error: ConfigurationError | ModelError | RefusedError, held_by: str) -> ApiError:
    match error:
        case ConfigurationError(code="prompt" | "chat-template") | ModelError():
            return invalid("messages", error.message, code=error.code)
        case ConfigurationError(code="tools"):
            return unsupported("tools", error.message)
        case ConfigurationError(code="logit_bias"):
            return invalid("logit_bias", error.message)
        case JoulemeshError(code="grammar"):
            return invalid(held_by, error.message, code="grammar")
    return invalid(None, error.message, code=error.code)


def refusal_of(error: JoulemeshError, held_by: str = "response_format") -> ApiError:
    """What a market's error is to a caller. Hints are for whoever runs the gateway, and stay with it.

    Args:
        held_by: the parameter that the answer is held to something by, if it is.
    """
    code, message = error.code, error.message
    match error:
        case RoutingError(code="busy"):
            return ApiError(503, message, kind="server_error", code=code, retry_s=_BUSY_S)
        case RoutingError(code="no-offers"):
            return ApiError(404, message, kind="invalid_request_error", code="model_not_found", param="model")
        case RoutingError(code="grammar"):
            return unsupported(held_by, error.message)
        case RoutingError():
            return ApiError(503, message + _reasons(error), kind="server_error", code=code)
        case FundsError():
            return ApiError(503, "the gateway's own balance is too low for this", kind="server_error", code=code)
        case ConfigurationError() | ModelError() | RefusedError(code="grammar"):
            return _refused_parameter(error, held_by)
        case RefusedError(retry_s=int(retry_s)) if retry_s:
            return ApiError(503, message, kind="server_error", code=code, retry_s=retry_s)
        case PeerError() | RuleError():
            return ApiError(502, message, kind="server_error", code=code)
    return ApiError(503, message, kind="server_error", code=code, retry_s=_BUSY_S)


def _reasons(error: RoutingError) -> str:
    """Why offers were left out, by how many; empty where nobody says."""
    left_out = error.explanations if isinstance(error, NoRouteError) else ()
    counted = Counter(reason.code for _, reason in left_out if reason.code != ReasonCode.MODEL)
    told = ", ".join(f"{reason} ({times})" for reason, times in counted.most_common())
    return f": {told}" if told else ""
