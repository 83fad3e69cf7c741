"""An inspection of a data set: many requests, one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fluoroscope.calls import InvalidRequestError, Survey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fluoroscope.calls import Activation, Model
    from fluoroscope.cli.bar import RowBar
    from fluoroscope.cli.dataset import DataSet
    from fluoroscope.client import Client


def surveyed(
    client: Client,
    model: Model,
    data: DataSet,
    question: Mapping[str, Any],
    *,
    batch_size: int | None,
    bar: RowBar,
) -> Iterable[Activation]:
    """Returns what reductions of a data set come to, by site in execution order.

    Args:
        client: What sends the batches.
        model: The network.
        data: The inputs.
        question: What to ask beside the inputs, as `Client.inspect` takes it.
        batch_size: How many examples to send at once; None means the most that the model takes.
        bar: Told of each answer.

    Raises:
        click.UsageError: The model takes no batches of this size, or the reductions do not add up.
    """
    most = max(model.buckets, default=1)
    size = most if batch_size is None else batch_size
    if size > most:
        raise click.UsageError(f"--batch-size {size}: the model {model.name} takes at most {most} examples at once.")
    survey = _begun(client, model, min(size, data.rows), question)
    limits = {"max_bytes": question["max_bytes"], "version": model.version}
    for number, asked in enumerate(survey.passes(), start=1):
        for inputs in data.batches(size):
            inspection = client.inspect(model.name, inputs, **asked, **limits)
            survey.add(inspection)
            bar(inspection, done=survey.rows, passes=number)
    return survey.values()


def _begun(client: Client, model: Model, rows: int, question: Mapping[str, Any]) -> Survey:
    """Returns a survey of the sites that the question means; the server refuses now what it would refuse later."""
    planned = client.plan(model.name, rows, **question, version=model.version)
    meant = {result.site for result in planned.results}
    sites = [site for site in client.sites(model.name, *meant, version=model.version) if site.path in meant]
    try:
        return Survey(sites, reduce=question["reduce"], slices=question["slices"])
    except InvalidRequestError as error:
        raise click.UsageError(f"--dataset: {error.message}.") from None
