"""Put a bridge together and run it until SIGTERM or SIGINT."""

import queue
import random
import signal
from pathlib import Path

from fleet_agent.bridge.broker import Broker
from fleet_agent.bridge.loop import Bridge, Event
from fleet_agent.bridge.settings import BridgeSettings, load_bridge_settings
from fleet_agent.bridge.worker import HttpInference
from fleet_agent.link.backoff import Backoff


def run_bridge(config: Path, socket_path: Path) -> None:
    """``socket_path``: the worker's, unless ``config`` names another. Raises `SettingsError`."""
    settings = load_bridge_settings(config)
    bridge = build_bridge(settings, socket_path)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bridge.stop())
    bridge.run()


def build_bridge(settings: BridgeSettings, socket_path: Path) -> Bridge:
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    broker = Broker(
        settings.broker,
        filters=[route.input for route in settings.route],
        status_topic=settings.status_topic,
        receive_max=2 * settings.queue_messages + 1,  # waiting, worked on, answered
        notify=inbox.put,
    )
    broker.check()
    inference = HttpInference(settings.worker or str(socket_path), settings.worker_timeout_s)
    return Bridge(
        settings,
        broker,
        inference,
        inbox,
        reconnect=Backoff(0.5, 60.0, random.random),
        retry=Backoff(0.05, 5.0, random.random),
    )
