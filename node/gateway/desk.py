"""Files and batches over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import hdrs, web

from node.gateway.batches import Batches
from node.gateway.entrance import CALLER, read_body, read_form
from node.gateway.refusals import invalid, missing, unsupported
from node.gateway.shelf import MOST_FILES, Shelf
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
            raise missing("file", "the file is missing")
        data = await asyncio.to_thread(file.file.read)
        stored = await asyncio.to_thread(
            self._shelf.put, data, owner=request[CALLER].owner, name=file.filename, purpose="batch", now=self._clock()
        )
        return web.json_response(stored.to_json())

    async def files(self, request: web.Request) -> web.Response:
        found = await asyncio.to_thread(self._shelf.files, request[CALLER].owner)
        return _list(request, [each.to_json() for each in found])

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
        return _list(request, await self._batches.all(request[CALLER]))

    async def batch(self, request: web.Request) -> web.Response:
        return web.json_response(await self._batches.get(request.match_info["id"], request[CALLER]))

    async def cancel(self, request: web.Request) -> web.Response:
        return web.json_response(await self._batches.cancel(request.match_info["id"], request[CALLER]))


def _list(request: web.Request, found: Sequence[dict[str, Any]]) -> web.Response:
    """A page of what there is: at most ``limit`` of those that come after the one named ``after``. Raises ApiError."""
    for name in request.query:
        if name not in ("after", "limit"):
            raise unsupported(name[:64])
    first, most = 0, request.query.get("limit", str(MOST_FILES))
    if not (most.isascii() and most.isdigit() and len(most) <= 6 and 1 <= int(most) <= MOST_FILES):
        raise invalid("limit", f"limit is a whole number from 1 to {MOST_FILES}")
    if after := request.query.get("after"):
        first = next((place for place, each in enumerate(found, 1) if each["id"] == after), 0)
        if not first:
            raise invalid("after", "after is the id of the last one of the page before")
    page = found[first : first + int(most)]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    more = first + len(page) < len(found)
    return web.json_response({"object": "list", "data": page, "has_more": more, **ends})
