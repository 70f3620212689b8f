"""The hub's side of one client: never waited for, never losing a confirmation."""

import socket
from collections.abc import Iterator

import pytest

from hil_rig.wire.client import Client, ClientGone
from hil_rig.wire.frame import Frame
from hil_rig.wire.records import RECORD, Filter, Kind, pack_frame, unpack


@pytest.fixture
def ends() -> Iterator[tuple[Client, socket.socket, socket.socket]]:
    frames, client_frames = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    room, client_room = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    frames.setblocking(False)
    client_frames.setblocking(False)
    client = Client(frames, room, 0, receive_own=True, receive_fd=False)
    yield client, client_frames, client_room
    for link in (client_frames, client_room):
        link.close()
    client.close()


Ends = tuple[Client, socket.socket, socket.socket]


def test_until_it_has_set_filters_a_client_gets_nothing(ends: Ends) -> None:
    client, _, _ = ends
    assert not client.accepts(Frame(1))
    assert not client.add_filters([Filter(1, 0x7FF)], first=True, last=False)
    assert not client.accepts(Frame(1))
    assert client.add_filters([Filter(2, 0x7FF)], first=False, last=True)
    assert [client.accepts(Frame(each)) for each in (1, 2, 3)] == [True, True, False]
    assert client.add_filters([], first=True, last=True)
    assert client.accepts(Frame(3))
    assert not client.accepts(Frame(3, fd=True))


def test_what_a_client_has_not_read_waits_in_order_and_within_bounds(ends: Ends) -> None:
    client, mine, _ = ends
    kept = 0
    while client.deliver(pack_frame(Kind.FRAME, Frame(kept % 0x800))):
        kept += 1
    assert client.behind
    assert client.deliver(pack_frame(Kind.FRAME, Frame(0x7FF), own=True), own=True)
    seen = []
    while client.behind:
        seen.append(unpack(mine.recv(RECORD.size)).number)
        client.catch_up()
    while len(seen) <= kept:
        seen.append(unpack(mine.recv(RECORD.size)).number)
    assert seen == [each % 0x800 for each in range(kept)] + [0x7FF]


def test_room_is_a_running_total_modulo_32_bits(ends: Ends) -> None:
    client, _, room = ends
    client.through = (1 << 32) + 3
    client.tell_room()
    assert unpack(room.recv(RECORD.size)).number == 3


def test_a_client_that_is_gone_is_noticed_when_it_is_handed_something(ends: Ends) -> None:
    client, mine, room = ends
    mine.close()
    room.close()
    with pytest.raises(ClientGone):
        client.deliver(pack_frame(Kind.FRAME, Frame(1)))
    with pytest.raises(ClientGone):
        client.tell_room()
