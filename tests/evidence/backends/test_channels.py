"""Connections are closed whoever ends a request, and whenever."""

from __future__ import annotations

import socket

import pytest

from skllm_calib.evidence.backends.hosted.channels import ChannelCutError, Channels, SDKChannel


class Http:
    """What a channel needs of an HTTP client."""

    is_closed = False

    def close(self):
        self.is_closed = True


class Stream:
    """A new connection, as an HTTP client reports it."""

    def __init__(self, opened):
        self.opened = opened

    def get_extra_info(self, name):
        assert name == "socket"
        return self.opened

    def close(self):
        self.opened.close()


@pytest.fixture
def pair():
    both = socket.socketpair()
    yield both
    for one in both:
        one.close()


def test_what_is_opened_after_the_end_is_closed(pair):
    channel = SDKChannel(Http(), None)
    channel.cut()
    with pytest.raises(ChannelCutError):
        channel._trace("connection.connect_tcp.complete", {"return_value": Stream(pair[0])})
    assert pair[0].fileno() < 0


def test_an_end_wakes_who_waits(pair):
    channel = SDKChannel(Http(), None)
    channel._trace("connection.connect_tcp.complete", {"return_value": Stream(pair[0])})
    channel.cut()
    assert pair[0].recv(1) == b""


def test_what_is_in_use_when_all_are_closed_is_closed_afterwards():
    channels = Channels(lambda: SDKChannel(Http(), None))
    with channels.lease() as idle:
        pass
    with channels.lease() as used:
        assert used is idle
        channels.close()
        assert not used._http.is_closed
    assert used._http.is_closed


def test_idle_ones_are_closed_at_once():
    channels = Channels(lambda: SDKChannel(Http(), None))
    with channels.lease() as idle:
        pass
    channels.close()
    assert idle._http.is_closed
