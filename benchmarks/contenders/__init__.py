"""The contenders: one file each, a stand-alone process; and the list of them.

A throughput contender is a module that is run as

    python -m benchmarks.contenders.NAME --bootstrap HOST:PORT --input TOPIC --output TOPIC --count N --model FILE

The input topic holds N records in four partitions, all written beforehand. The contender reads them in a consumer group
of its own (named like its output topic), writes N predictions to the output topic, and prints one line,
`contract.Measurement`, once the broker has acknowledged all of them: its last line on stdout.

A latency contender takes the same options less `--count` and echoes until it is sent SIGTERM: it reads from the first
record, and copies transaction_id, which carries the time, from input to output.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """One row of the throughput benchmark.

    Attributes:
        name: as the tables and `--contenders` have it.
        about: one line: how it reads and writes.
        events: how many events it is given in a full run, about two seconds of work or more.
        quick_events: how many under `--quick`.
        module: what `python -m` runs; `benchmarks.contenders.<name>` if empty.
        arguments: for the module, before the common options.
        input: kind of its events, a key of `benchmarks.work.EVENTS`: the fraud pipeline needs cards that behave like
            cards, or a seventh of what it scores would be flagged and explained.
        kafka: False for one that works in memory: it ignores the topics, and no output is counted.
    """

    name: str
    about: str
    events: int
    quick_events: int
    module: str = ""
    arguments: tuple[str, ...] = ()
    input: str = "small"
    kafka: bool = True

    @property
    def command(self) -> tuple[str, ...]:
        """Arguments of the Python interpreter, before the common options."""
        return ("-m", self.module or f"benchmarks.contenders.{self.name}", *self.arguments)


@dataclass(frozen=True)
class Echo:
    """One row of the latency benchmark: a process that echoes from input to output until SIGTERM."""

    name: str
    about: str
    module: str
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """Arguments of the Python interpreter, before the common options."""
        return ("-m", self.module, *self.arguments)


REFERENCE = "librdkafka"

CONTENDERS = (
    Contender("headrace", "the product around the same work", events=600_000, quick_events=200_000),
    Contender("faust", "one event at a time, topic.send", events=15_000, quick_events=3_000),
    Contender("quix", "StreamingDataFrame, per event", events=80_000, quick_events=15_000),
    Contender("aiokafka", "getmany(512), send per event", events=300_000, quick_events=60_000),
    Contender("bytewax", "KafkaSource(512), flat_map_batch, KafkaSink", events=300_000, quick_events=60_000),
    Contender("librdkafka", "consume(512), produce per event", events=600_000, quick_events=200_000),
    Contender(
        "headrace_fraud",
        "the fraud pipeline: state, changelog, commits",
        events=600_000,
        quick_events=200_000,
        input="simulated",
    ),
    Contender(
        "headrace_poison",
        "the fraud pipeline with 1 % poison, dead-lettered",
        events=600_000,
        quick_events=200_000,
        module="benchmarks.contenders.headrace_fraud",
        input="poisoned",
    ),
    Contender(
        "fraud_bare",
        "its arithmetic in memory, without Kafka",
        events=600_000,
        quick_events=200_000,
        input="simulated",
        kafka=False,
    ),
)

ECHOES = (
    Echo("headrace", "the product around the same work", "benchmarks.contenders.headrace_echo"),
    Echo("aiokafka", "getmany(512), send per event, linger 0", "benchmarks.contenders.aiokafka_echo"),
)
