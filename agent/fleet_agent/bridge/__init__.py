"""The bridge: topics of a *local* broker in and out, inference by the worker in between.

A process of its own (``fleet-agent bridge``), with credentials of its own for a broker that is not
the fleet's. All it shares with the agent is the address of the worker, to which it speaks the Open
Inference Protocol like any other application.

    settings   bridge.toml: what may stand there
    payloads   message to request: pure
    answers    answer to message: pure
    desk       which message is waited for, worked on, answered, acknowledged, dropped: pure
    worker     the client of the worker
    broker     the connection to the local broker
    loop       the one thread that owns the desk
"""
