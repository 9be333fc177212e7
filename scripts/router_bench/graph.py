"""Dijkstra's search in a graph of (server, block), as others route."""

from __future__ import annotations

import heapq
import importlib
import itertools
from collections.abc import Callable
from typing import Any

from protocol.routing.candidates import Candidates, Weights, lattice_of


def graph_search(c: Candidates, weights: Weights, search: Callable[[Graph], Way | None]) -> int | None:
    """The cost of the cheapest path that leaves each server at its span's end; the way back to the first included."""
    lattice = lattice_of(c, weights)
    cost, access = lattice.block_cost.tolist(), lattice.access.tolist()
    region, between = c.region.tolist(), lattice.between.tolist()
    start, end = c.start.tolist(), c.end.tolist()
    graph: Graph = {START: {}}
    holding = [[i for i in range(len(start)) if start[i] <= block < end[i]] for block in range(c.blocks)]
    for i in holding[0]:
        graph[START][i, 0] = access[i]
    for i in range(len(start)):
        for block in range(start[i], end[i]):
            graph.setdefault((i, block), {})[i, block + 1] = cost[i]
        out = graph.setdefault((i, end[i]), {})
        if end[i] == c.blocks:
            out[END] = access[i]
            continue
        for j in holding[end[i]]:
            if j != i:
                out[j, end[i]] = access[i] + between[region[i]][region[j]] + access[j]
    found = search(graph)
    if found is None:
        return None
    total, first, last = found
    return total + between[region[last]][region[first]]


Node = tuple[int, int]
Graph = dict[Node, dict[Node, int]]
Way = tuple[int, int, int]
"""The cost of the cheapest way from start to end, and the first and the last server on it."""
START, END = (-1, 0), (-2, 0)


def with_networkx(graph: Graph) -> Way | None:
    """By a library for graphs, as others use one; None where it is not installed."""
    try:
        networkx: Any = importlib.import_module("networkx")
    except ImportError:
        return None
    whole = networkx.DiGraph()
    for node, out in graph.items():
        for following, weight in out.items():
            whole.add_edge(node, following, weight=weight)
    total, path = networkx.single_source_dijkstra(whole, START, END)
    return total, path[1][0], path[-2][0]


def dijkstra(graph: Graph) -> Way | None:
    """By a heap and two dictionaries."""
    best: dict[Node, int] = {START: 0}
    before: dict[Node, Node] = {}
    tick = itertools.count()
    queue: list[tuple[int, int, Node]] = [(0, next(tick), START)]
    while queue:
        so_far, _, node = heapq.heappop(queue)
        if node == END:
            path = [before[END]]
            while before[path[-1]] != START:
                path.append(before[path[-1]])
            return so_far, path[-1][0], path[0][0]
        if so_far > best[node]:
            continue
        for following, more in graph.get(node, {}).items():
            total = so_far + more
            if total < best.get(following, total + 1):
                best[following], before[following] = total, node
                heapq.heappush(queue, (total, next(tick), following))
    return None
