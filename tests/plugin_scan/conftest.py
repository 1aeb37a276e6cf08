"""The plugin as a module: it imports the SDK by the name that it has inside a cell."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SDK = ROOT / "oxgen" / "sdk"
PLUGIN = ROOT / "plugins" / "passive-header-scan" / "passive_header_scan.py"


@pytest.fixture(scope="session")
def scanner() -> Iterator[ModuleType]:
    """Return the plugin, loaded from its file."""
    sys.path.insert(0, str(SDK))
    # Folders that get mounted and signed hold sources only.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec = importlib.util.spec_from_file_location("passive_header_scan", PLUGIN)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.dont_write_bytecode = before
        sys.path.remove(str(SDK))


def make_record(
    headers: dict[str, str] | None = None,
    *,
    url: str = "https://shop.example/a",
    status: int = 200,
    cookies: tuple[str, ...] = (),
    body: str | None = None,
    request: dict[str, str] | None = None,
    number: int = 0,
) -> dict[str, Any]:
    """Return a flow as the host hands it out; HTML unless ``headers`` has another Content-Type."""
    given = {"Content-Type": "text/html", **(headers or {})}
    return {
        "id": f"flow-{number}",
        "method": "GET",
        "url": url,
        "http_version": "HTTP/1.1",
        "request_headers": [list(pair) for pair in (request or {}).items()],
        "status": status,
        "response_headers": [list(pair) for pair in given.items()],
        "set_cookies": list(cookies),
        "body": body,
        "body_size": None if body is None else len(body),
        "body_truncated": False,
        "mime_type": "text/html",
        "started_at": "",
    }


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """Return the maker of flows."""
    return make_record


@pytest.fixture
def rules(scanner: ModuleType) -> Callable[..., set[str]]:
    """Return a function that names the rules that one flow breaks."""

    def judge(*args: Any, **kwargs: Any) -> set[str]:
        return {hit.rule for hit in scanner.check(scanner.Flow(make_record(*args, **kwargs)))}

    return judge
