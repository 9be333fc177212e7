"""What is read of an RPC in which a neighbour asks something of gossip's router."""

from __future__ import annotations

from libp2p.pubsub.pb import rpc_pb2

from node.p2p.control import bounded

FOLLOWED = {"offers"}


def test_what_an_honest_neighbour_says_is_read_whole() -> None:
    said = rpc_pb2.ControlMessage()
    said.ihave.add(topicID="offers", messageIDs=[b"aa", b"bb"])
    said.iwant.add(messageIDs=[b"cc", b"dd"])
    said.graft.add(topicID="offers")
    said.prune.add(topicID="offers", backoff=60)
    assert bounded(said, FOLLOWED) == said


def test_nothing_is_read_of_topics_that_nobody_follows_here() -> None:
    said = rpc_pb2.ControlMessage()
    for number in range(1000):
        said.prune.add(topicID=f"topic {number}")
        said.graft.add(topicID=f"topic {number}")
        said.ihave.add(topicID=f"topic {number}", messageIDs=[b"aa"])
    assert not bounded(said, FOLLOWED).ByteSize()


def test_what_is_said_again_and_again_counts_once() -> None:
    said = rpc_pb2.ControlMessage()
    for _ in range(1000):
        said.prune.add(topicID="offers", backoff=2**40)
        said.iwant.add(messageIDs=[b"aa"] * 10)
    read = bounded(said, FOLLOWED)
    assert [each.backoff for each in read.prune] == [60]
    assert [list(each.messageIDs) for each in read.iwant] == [[b"aa"]]


def test_lists_are_read_so_far_and_no_further() -> None:
    said = rpc_pb2.ControlMessage()
    ids = [number.to_bytes(4, "big") for number in range(10_000)]
    said.ihave.add(topicID="offers", messageIDs=ids)
    said.iwant.add(messageIDs=ids)
    said.idontwant.add(messageIDs=ids)
    read = bounded(said, FOLLOWED)
    assert (len(read.ihave[0].messageIDs), len(read.iwant[0].messageIDs), len(read.idontwant)) == (1024, 64, 0)
