"""Files and batches over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import hdrs, web

from node.gateway.batches import Batches
from node.gateway.entrance import CALLER, read_body, read_form
from node.gateway.refusals import invalid, unsupported
from node.gateway.shelf import Shelf
from node.ports import Clock

__all__ = ["Desk"]


class Desk:
    """The handlers."""

    def __init__(self, shelf: Shelf, batches: Batches, clock: Clock) -> None:
        self._shelf = shelf
        self._batches = batches
        self._clock = clock

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Their places."""
        router.add_post("/v1/files", self.upload)
        router.add_get("/v1/files", self.files)
        router.add_get("/v1/files/{id}", self.file)
        router.add_delete("/v1/files/{id}", self.delete)
        router.add_get("/v1/files/{id}/content", self.content)
        router.add_post("/v1/batches", self.begin)
        router.add_get("/v1/batches", self.batches)
        router.add_get("/v1/batches/{id}", self.batch)
        router.add_post("/v1/batches/{id}/cancel", self.cancel)

    async def upload(self, request: web.Request) -> web.Response:
        form = await read_form(request)
        for name in form:
            if name not in ("file", "purpose"):
                raise unsupported(name[:64])
        purpose, file = form.get("purpose"), form.get("file")
        if purpose != "batch":
            raise invalid("purpose", "purpose is batch: files are for nothing else here")
        if not isinstance(file, web.FileField):
            raise invalid("file", "the file is missing", code="missing_required_parameter")
        data = await asyncio.to_thread(file.file.read)
        stored = await asyncio.to_thread(
            self._shelf.put, data, owner=request[CALLER].owner, name=file.filename, purpose="batch", now=self._clock()
        )
        return web.json_response(stored.to_json())

    async def files(self, request: web.Request) -> web.Response:
        found = await asyncio.to_thread(self._shelf.files, request[CALLER].owner)
        return _list([each.to_json() for each in found])

    async def file(self, request: web.Request) -> web.Response:
        found = await asyncio.to_thread(self._shelf.file, request.match_info["id"], request[CALLER].owner)
        return web.json_response(found.to_json())

    async def content(self, request: web.Request) -> web.FileResponse:
        found = await asyncio.to_thread(self._shelf.file, request.match_info["id"], request[CALLER].owner)
        return web.FileResponse(self._shelf.content(found.id), headers={hdrs.CONTENT_TYPE: "application/octet-stream"})

    async def delete(self, request: web.Request) -> web.Response:
        found = await asyncio.to_thread(self._shelf.file, request.match_info["id"], request[CALLER].owner)
        await asyncio.to_thread(self._shelf.delete, found.id)
        return web.json_response({"id": found.id, "object": "file", "deleted": True})

    async def begin(self, request: web.Request) -> web.Response:
        return web.json_response(await self._batches.make(await read_body(request), request[CALLER]))

    async def batches(self, request: web.Request) -> web.Response:
        return _list(await self._batches.all(request[CALLER]))

    async def batch(self, request: web.Request) -> web.Response:
        return web.json_response(await self._batches.get(request.match_info["id"], request[CALLER]))

    async def cancel(self, request: web.Request) -> web.Response:
        return web.json_response(await self._batches.cancel(request.match_info["id"], request[CALLER]))


def _list(found: Sequence[dict[str, Any]]) -> web.Response:
    ends = {"first_id": found[0]["id"], "last_id": found[-1]["id"]} if found else {"first_id": None, "last_id": None}
    return web.json_response({"object": "list", "data": list(found), "has_more": False, **ends})
