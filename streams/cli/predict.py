"""`headrace predict`: run a pipeline over a file, without a broker."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from streams.cli.console import Meter, existing_file, file_options, pipe_safe, summary
from streams.cli.predict_vision import vision
from streams.cli.predicting import DeadLetters, check_apart, predictions_file
from streams.pipelines import PIPELINES

if TYPE_CHECKING:
    from connectors.files import EventFile
    from streams.replay import Replay


class _Pipelines(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            ctx.fail(f"expected one of {', '.join(map(repr, self.commands))}, got {args[0]!r}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Pipelines)
def predict() -> None:
    """Run a pipeline over a file: the code that serves the topics, without a broker.

    \b
    Examples:
      headrace predict fraud --from payments.jsonl > flags.jsonl
      headrace predict vision --model yolox_nano --from gate.mp4 --draw seen.mp4
    """


def _command(pipeline: str) -> click.Command:
    """The command of a pipeline whose events are rows of a file."""
    labelled = pipeline == "fraud"
    labels, example = (_LABELS, _LABELS_EXAMPLE) if labelled else ("", "")
    text = _HELP.format(pipeline=pipeline, labels=labels, example=example)

    @click.command(pipeline, help=text, short_help=f"Run the pipeline {pipeline} over a file.")
    @click.option(
        "--from",
        "source",
        required=True,
        metavar="FILE",
        help="A .csv, .jsonl or .parquet file (text also as .gz), in the order of the events.",
    )
    @file_options
    @click.option("--output", metavar="FILE", help="Where the predictions go.  [standard output]")
    @click.option("--strict", is_flag=True, help="Exit code 1 where there were dead letters, or labels were left out.")
    def command(**options: Any) -> None:
        _run(pipeline, **options)

    if labelled:
        what = "What the transactions turned out to be, and since when."
        return click.option("--labels", metavar="FILE", help=what)(command)
    return command


_HELP = """Run the pipeline over a file: the code that serves its topic, without a broker.

    Predictions come as JSON lines on standard output, in the file's order. An event that can never succeed comes as a
    JSON line on standard error, with its row (the line of a text file) and the reason. State, such as a card's history,
    starts empty and lasts for the whole file.{labels}

    \b
    Examples:
      headrace predict {pipeline} --from events.jsonl > predictions.jsonl
      headrace predict {pipeline} --from events.csv.gz --map card_id=PAN --output predictions.jsonl
      headrace predict {pipeline} --from events.parquet --strict > predictions.jsonl{example}
    """
_LABELS = """ A label counts from its label_time on; one that is none, e.g. from the future, is left out and counted.
    --map and --bad-rows hold for both files."""
_LABELS_EXAMPLE = """
      headrace predict fraud --from payments.parquet --labels chargebacks.csv | jq 'select(.flagged)'"""


def _run(
    pipeline: str,
    source: str,
    columns: dict[str, str],
    bad_rows: str,
    output: str | None,
    strict: bool,
    labels: str | None = None,
) -> None:
    from streams import settings
    from streams.replay import Replay

    check_apart({"--from": source, "--labels": labels}, {"--output": output})
    loaded = settings.load()
    with ExitStack() as stack:
        file = stack.enter_context(_open(pipeline, source, columns, bad_rows, loaded.batch.max_batch_size))
        built = PIPELINES[pipeline].build(loaded)
        stack.callback(built.close)
        stack.enter_context(pipe_safe())
        replay = Replay(built)
        known = _Labels()
        if labels is not None:
            with _open("labels", labels, columns, bad_rows, loaded.batch.max_batch_size) as opened:
                known.follow(opened, replay, loaded.fraud.labels)
        target = stack.enter_context(predictions_file(output)) if output else sys.stdout.buffer
        job = _Job(file, replay, target, known)
        try:
            job.run()
        finally:
            job.summarise()
    if strict and (job.dead.stages or known.left_out):
        sys.exit(1)


@dataclass
class _Labels:
    """What became of the labels in a file; without one, nothing."""

    read: int = 0
    left_out: int = 0
    told: str = ""

    def follow(self, file: EventFile, replay: Replay, topic: str) -> None:
        with Meter("labels", file.total_bytes) as meter:
            for batch in file:
                self.left_out += replay.follow(topic, batch.keys, batch.values)
                self.read += len(batch.rows)
                meter.show(self.read, file.bytes_read)
        if self.left_out:
            self.told = (
                f"; {self.left_out:,} of {self.read:,} labels left out: "
                f"`headrace predict labels --from {file.path}` says why"
            )
        self.told += _skipped(file)


@dataclass
class _Job:
    file: EventFile
    replay: Replay
    target: BinaryIO
    labels: _Labels
    events: int = 0
    dead: DeadLetters = field(default_factory=DeadLetters)
    started: float = field(default_factory=time.perf_counter)

    def run(self) -> None:
        from streams.cli.records import json_value

        with Meter("events", self.file.total_bytes) as meter:
            for batch in self.file:
                replayed = self.replay.process(batch.keys, batch.values)
                if replayed.values:
                    self.target.write(b"\n".join(value or b"" for value in replayed.values) + b"\n")
                for letter in replayed.dead_letters:
                    self.dead.tell(letter, {"row": batch.rows[letter.row]}, json_value(letter.value))
                self.events += len(batch.rows)
                meter.show(self.events, self.file.bytes_read)
        self.target.flush()

    def summarise(self) -> None:
        seconds = time.perf_counter() - self.started
        text = f"{self.events:,} events from {self.file.path} in {seconds:.1f} s ({self.events / seconds:,.0f}/s)"
        summary(text + self.dead.summary() + _skipped(self.file) + self.labels.told)


def _skipped(file: EventFile) -> str:
    return f"; {file.skipped:,} bad rows left out, the first: {file.first_skipped}" if file.skipped else ""


def _open(pipeline: str, source: str, columns: dict[str, str], bad_rows: str, batch_rows: int) -> EventFile:
    from connectors.files import open_events

    return open_events(
        existing_file(source),
        fields=PIPELINES[pipeline].fields(),
        key=PIPELINES[pipeline].key,
        columns=columns,
        bad_rows="skip" if bad_rows == "skip" else "stop",
        batch_rows=batch_rows,
    )


for _domain in PIPELINES.values():
    if _domain.events:
        predict.add_command(_command(_domain.name))
predict.add_command(vision)
