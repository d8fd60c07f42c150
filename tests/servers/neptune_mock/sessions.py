"""API keys and tokens."""

from __future__ import annotations

import base64
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Sessions:
    """API keys, and their access and refresh tokens.

    Args:
        lifetime: seconds after which an access token is no longer accepted.
    """

    lifetime: float
    keys: set[str] = field(default_factory=set)
    """The API keys that are accepted."""
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    """Refresh token → API key."""
    access_tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Access token → API key and end of validity."""

    def begin(self, api_token: str, issuer: str) -> dict[str, Any] | None:
        """Return tokens for an API token; None if its key is not accepted."""
        key = _key(api_token)
        return self._tokens(key, issuer) if key in self.keys else None

    def refresh(self, refresh_token: str, issuer: str) -> dict[str, Any] | None:
        """Return new tokens; None if the key is no longer accepted."""
        key = self.refresh_tokens.get(refresh_token)
        return self._tokens(key, issuer) if key in self.keys else None

    def refuse(self, authorization: str) -> str | None:
        """Return why a request is refused, ``expired`` or ``unknown``; None if it is not."""
        key, end = self.access_tokens.get(authorization.removeprefix("Bearer "), (None, 0.0))
        if key not in self.keys:
            return "unknown"
        return "expired" if time.time() > end else None

    def revoke(self, *keys: str) -> None:
        """Revoke keys and their tokens; all keys if none is given."""
        self.keys -= set(keys or self.keys)

    def expire(self) -> None:
        """Expire all access tokens now."""
        self.access_tokens = {token: (key, 0.0) for token, (key, _) in self.access_tokens.items()}

    def _tokens(self, key: str | None, issuer: str) -> dict[str, Any]:
        assert key is not None
        end = time.time() + self.lifetime
        access = _jwt({"exp": int(end), "azp": "neptune-cli", "iss": issuer, "jti": str(uuid.uuid4())})
        refresh = _jwt({"iss": issuer, "jti": str(uuid.uuid4())})
        self.access_tokens[access] = (key, end)
        self.refresh_tokens[refresh] = key
        return {"accessToken": access, "refreshToken": refresh, "username": "tester"}


def api_token(url: str, key: str) -> str:
    """The API token for a server and key."""
    return base64.b64encode(json.dumps({"api_address": url, "api_url": url, "api_key": key}).encode()).decode()


def _key(token: str) -> str | None:
    try:
        return json.loads(base64.b64decode(token))["api_key"]
    except (ValueError, KeyError):
        return None


def _jwt(claims: dict[str, Any]) -> str:
    """An unsigned token; the client does not check the signature."""
    parts = [json.dumps(each).encode() for each in ({"alg": "none", "typ": "JWT"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."
